"""What the suites share: the file that names programs, a server of their own, tests and the closing line.

Only the standard library is used, so that every environment can import it.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


def environment():
    """The file that `cargo xtask setup` writes."""
    path = os.environ.get("FLUMINA_TESTENV") or ROOT / "target/testenv.json"
    return json.loads(pathlib.Path(path).read_text())


def flumina():
    """The program under test."""
    return str(pathlib.Path(environment()["bin"]) / "flumina")


class Server:
    """`flumina up` on a free port with a data directory of its own; both are gone afterwards."""

    def __init__(self, token=None, config=None, env=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flumina-suite-"))
        self.data = self.folder / "data"
        self.token = token
        command = [flumina(), "up", "--listen", "127.0.0.1:0", "--data-dir", str(self.data), "--on-exit=stop"]
        if config:
            (self.folder / "config.toml").write_text(config)
            command += ["--config", str(self.folder / "config.toml")]
        variables = dict(os.environ, **(env or {}))
        variables.pop("FLUMINA_TOKEN", None)
        if token:
            variables["FLUMINA_TOKEN"] = token
        uv = str(pathlib.Path(environment()["uv"]).parent)
        variables["PATH"] = uv + os.pathsep + variables["PATH"]
        self.log = open(self.folder / "server.log", "wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=variables)
        self.url = self._ready(30)

    def _ready(self, seconds):
        lines = queue.Queue()

        def read():
            for line in self.process.stdout:
                lines.put(line.decode())
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                self.close()
                raise RuntimeError(f"the server did not become ready\n{self.text()}")
            if line.startswith("ready "):
                return line.split()[1]

    @property
    def address(self):
        return self.url.removeprefix("http://")

    def admin(self):
        """The URL of the port for metrics."""
        for line in self.text().splitlines():
            if '"the admin port"' in line:
                return "http://" + json.loads(line)["fields"]["address"]
        raise AssertionError("no admin port in the log")

    def text(self):
        """The end of the server's log."""
        if self.folder.exists():
            self.last = (self.folder / "server.log").read_text(errors="replace")[-4000:]
        return self.last

    def close(self):
        """Stops the server, the steps that it runs included, and removes its data."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.text()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, path, body=None, headers=None, raw=False, timeout=30):
        """One request: the status, the body (parsed unless `raw`) and the headers of the answer."""
        headers = dict(headers or {})
        if self.token and "authorization" not in {name.lower() for name in headers}:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with OPENER.open(request, timeout=timeout) as answer:
                status, data, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, data, found = error.code, error.read(), error.headers
        if not raw:
            try:
                data = json.loads(data) if data else {}
            except ValueError:
                pass
        return status, data, found

    def get(self, path, **options):
        """The parsed body of a GET that must succeed."""
        status, body, _ = self.call("GET", path, **options)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def wait(self, run_id, seconds=120):
        """The run, in full, once it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            run = self.get(f"/apis/flumina.pipelines/v1/runs/{run_id}")
            if run["state"] in FINAL:
                return run
            if time.monotonic() > deadline:
                states = {name: task["state"] for name, task in self.tasks(run_id).items()}
                raise AssertionError(f"the run is {run['state']} after {seconds} s: {states}")
            time.sleep(0.1)

    def tasks(self, run_id):
        """The tasks of a run by their path."""
        found, token = {}, ""
        while True:
            page = self.get(
                f"/apis/flumina.pipelines/v1/runs/{run_id}/tasks?page_size=1000&page_token={token}"
            )
            for task in page.get("tasks", []):
                found[task.get("path", "")] = task
            token = page.get("next_page_token", "")
            if not token:
                return found

    def artifact(self, artifact_id):
        return self.get(f"/apis/flumina.pipelines/v1/artifacts/{artifact_id}")


# Libraries print links and progress; suites keep the real output for themselves.
_OUT = sys.stdout


def say(text):
    print(text, file=_OUT, flush=True)


# Proxies of the environment are for the world, not for a server on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Suite:
    """Tests by decorator. Only failures are printed, and the totals at the end."""

    def __init__(self):
        self.tests = []
        self.passed = 0
        self.failures = []
        self._lock = threading.Lock()

    def test(self, function):
        self.tests.append((function.__name__, function))
        return function

    def add(self, name, function):
        self.tests.append((name, function))

    def run(self, *arguments, workers=1):
        """Runs all tests that were declared since the last call."""
        tests, self.tests = self.tests, []
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda test: self._one(*test, arguments), tests))

    def _one(self, name, function, arguments):
        started = time.monotonic()
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001
            with self._lock:
                self.failures.append(name)
                say(f"FAILED {name}: {_explain(error)}")
        else:
            with self._lock:
                self.passed += 1
        if os.environ.get("SUITE_TIMES"):
            say(f"{time.monotonic() - started:6.2f} s {name}")

    @contextlib.contextmanager
    def guard(self, name):
        """A part outside any test, such as starting the server: its failure counts as one."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self.failures.append(name)
            say(f"FAILED {name}: {_explain(error)}")

    def close(self):
        say(f"{self.passed} passed, {len(self.failures)} failed")
        sys.exit(1 if self.failures or not self.passed else 0)


def _explain(error):
    text = str(error) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "conformance" in frame.filename] or frames
    where = f"{pathlib.Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    if isinstance(error, AssertionError) and not str(error) and own:
        text = own[-1].line
    else:
        text = f"{type(error).__name__}: {text}"
    return f"{where}: {text[:1500]}"


def equal(actual, expected, what=""):
    """Fails with both values."""
    assert actual == expected, f"{what or 'value'}: {actual!r} is not {expected!r}"
