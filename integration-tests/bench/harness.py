"""What every measurement needs: a server of its own, calls to it, and a record of what was seen."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request


def arguments(area):
    parser = argparse.ArgumentParser()
    parser.add_argument("--flumina", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for trying the script")
    return parser.parse_args()


class Server:
    """`flumina up` on a free port with a data directory of its own."""

    def __init__(self, flumina, env=None, config=""):
        self.flumina = flumina
        self.dir = tempfile.mkdtemp(prefix="flumina-bench-")
        self.data = os.path.join(self.dir, "data")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        command = [flumina, "up", "--listen", "127.0.0.1:0", "--data-dir", self.data]
        settings = "[process.admin]\nlisten = \"127.0.0.1:0\"\n" + config
        path = os.path.join(self.dir, "flumina.toml")
        with open(path, "w") as file:
            file.write(settings)
        command += ["--config", path]
        environment = dict(os.environ, **(env or {}))
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, env=environment
        )
        line = self.process.stdout.readline().decode()
        self.ready_seconds = time.perf_counter() - begun
        if not line.startswith("ready "):
            self.log.flush()
            with open(self.log.name) as file:
                raise SystemExit(f"the server did not start: {line!r}\n{file.read()}")
        self.url = line.split()[1]

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def submit(self, spec, name, parameters=None):
        run = {
            "display_name": name,
            "pipeline_spec": spec,
            "runtime_config": {"parameters": parameters or {}},
        }
        return self.post("/apis/v2beta1/runs", run)["run_id"]

    def wait(self, run_id):
        """Follows the run to its end and returns it; the server says when, nothing is polled."""
        path = f"/apis/flumina.pipelines/v1/runs/{run_id}:watch"
        last = None
        with urllib.request.urlopen(self.url + path, timeout=600) as lines:
            for line in lines:
                if line.strip():
                    last = json.loads(line)["result"].get("run", last)
        if last is None or last["state"] != "SUCCEEDED":
            raise SystemExit(f"run {run_id} ended {last}")
        return last

    def tasks(self, run_id):
        tasks, token = [], ""
        while True:
            path = f"/apis/flumina.pipelines/v1/runs/{run_id}/tasks?page_size=1000&page_token={token}"
            page = self.get(path)
            tasks += page.get("tasks", [])
            token = page.get("next_page_token", "")
            if not token:
                return tasks

    def stop(self):
        subprocess.run(
            [self.flumina, "down", "--data-dir", self.data],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        subprocess.run(["chmod", "-R", "u+w", self.dir], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def memory_kib(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def spread(values):
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "n": len(ordered),
        "raw": values,
    }


class Record:
    """Figures with their bars; written beside each other with date and machine."""

    def __init__(self, area, args):
        self.area, self.out, self.missed = area, args.out, []
        self.figures = {}
        self.quick = args.quick

    def figure(self, name, value, unit, bar=None, raw=None):
        fits = bar is None or value <= bar
        self.figures[name] = {"value": value, "unit": unit, "bar": bar, "raw": raw}
        verdict = "" if bar is None else f"  (bar {bar:g}: {'held' if fits else 'MISSED'})"
        print(f"{name:64} {value:10.3f} {unit}{verdict}", flush=True)
        if not fits:
            self.missed.append(name)

    def write(self):
        os.makedirs(self.out, exist_ok=True)
        cpu = ""
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    cpu = line.split(":", 1)[1].strip()
                    break
        document = {
            "area": self.area,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {
                "cpu": cpu,
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            },
            "command": f"cargo xtask bench {self.area}",
            "figures": self.figures,
        }
        if not self.quick:
            path = os.path.join(self.out, f"{self.area}.json")
            with open(path, "w") as file:
                json.dump(document, file, indent=1)
                file.write("\n")
        if self.missed:
            raise SystemExit("missed: " + ", ".join(self.missed))
