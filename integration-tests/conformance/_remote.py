"""Runs whose artifacts are in a store that speaks S3, by the unmodified kfp SDK."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import warnings

from _harness import OPENER, Server, Suite, environment, equal, flumina

warnings.simplefilter("ignore")
os.environ["KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT"] = "true"
_home = os.environ.get("HOME", "/")
os.environ["HOME"] = tempfile.mkdtemp(prefix="flumina-home-")
import kfp  # noqa: E402
from kfp import dsl  # noqa: E402
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output  # noqa: E402

os.environ["HOME"] = _home
SECRET = "test-secret-do-not-show"
suite = Suite()


class Store:
    """The S3 server of the tests, on a directory of its own."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flumina-s3-"))
        self.root = self.folder / "buckets"
        self.bucket = self.root / "data"
        self.bucket.mkdir(parents=True)
        self.secret = self.folder / "secret"
        self.secret.write_text(SECRET)
        program = pathlib.Path(environment()["bin"]) / "flumina-test-s3"
        self.process = subprocess.Popen([program, self.root], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def config(self):
        """The configuration of a server that uses it."""
        table = f'endpoint = "{self.url}"\naccess_key_id = "test-key"\nsecret_access_key_file = "{self.secret}"\n'
        mounted = self.folder / "mounted"
        mounted.mkdir(exist_ok=True)
        stores = "".join(f'[[stores]]\nuri = "{uri}"\n{table}' for uri in ("s3://data", "minio://"))
        return stores + f'[[stores]]\nuri = "{mounted}"\n'

    def tell(self, order, **words):
        with OPENER.open(f"{self.url}/-/{order}?{urllib.parse.urlencode(words, safe='/')}", timeout=10) as answer:
            return answer.read().decode()

    @contextlib.contextmanager
    def failing(self, **words):
        self.tell("fail", **words)
        try:
            yield
        finally:
            self.tell("heal")

    def keys(self, prefix=""):
        files = (path for path in self.bucket.rglob("*") if path.is_file())
        return sorted(key for key in (str(path.relative_to(self.bucket)) for path in files) if key.startswith(prefix))

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dsl.component
def produce(rows: int, data: Output[Dataset], folder: Output[Model], scores: Output[Metrics]) -> str:
    import os

    with open(data.path, "w") as file:
        file.write("".join(f"{row}\n" for row in range(rows)))
    os.makedirs(os.path.join(folder.path, "sub"))
    for name in ("a.txt", "sub/b.txt"):
        with open(os.path.join(folder.path, name), "w") as file:
            file.write(name)
    folder.metadata["files"] = 2
    scores.log_metric("rows", rows)
    return data.uri


@dsl.component
def consume(data: Input[Dataset], folder: Input[Model], scores: Input[Metrics], copy: Output[Dataset]) -> str:
    import os

    found = sorted(os.path.relpath(os.path.join(at, name), folder.path) for at, _, names in os.walk(folder.path) for name in names)
    with open(data.path) as file:
        total = sum(int(line) for line in file)
    with open(copy.path, "w") as file:
        file.write(str(total))
    return f"{total} {' '.join(found)} {folder.metadata['files']} {scores.metadata['rows']} {data.uri == data.path}"


@dsl.component
def beside(own: Output[Artifact]) -> str:
    own.uri = dsl.get_uri("chosen")
    with open(own.path, "w") as file:
        file.write("chosen place")
    return own.uri


@dsl.component
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.container_component
def shell(data: Input[Dataset], out: Output[Dataset], uri: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image="alpine:3.20",
        command=["sh", "-c", 'tr 0 x <"$0" >"$1"; printf %s "$2" >"$3"'],
        args=[data.path, out.path, out.uri, uri],
    )


PYTHON = environment()["python"]["kfp-2.4" if kfp.__version__.startswith("2.4") else "kfp-2.17"]


# What an image with the SDK in it does, whatever started its interpreter.
SOURCE = """
import json, sys
from kfp.dsl import Dataset
given = json.loads(sys.argv[1])
place = lambda kind, name: Dataset(uri=given[kind]["artifacts"][name]["artifacts"][0]["uri"]).path
text = open(place("inputs", "data")).read()
open(place("outputs", "out"), "w").write(text.replace("0", "zero"))
"""


@dsl.container_component
def sdk_of_its_own(data: Input[Dataset], out: Output[Dataset]):
    return dsl.ContainerSpec(image="python:3.11", command=[PYTHON, "-c", SOURCE], args=["{{$}}", data.path, out.path])


@dsl.pipeline(name="remote")
def remote(rows: int = 5):
    made = produce(rows=rows)
    consume(data=made.outputs["data"], folder=made.outputs["folder"], scores=made.outputs["scores"])
    beside()
    changed = shell(data=made.outputs["data"])
    read(data=changed.outputs["out"])
    read(data=sdk_of_its_own(data=made.outputs["data"]).outputs["out"])


@dsl.pipeline(name="pair")
def pair(rows: int = 5):
    made = produce(rows=rows)
    consume(data=made.outputs["data"], folder=made.outputs["folder"], scores=made.outputs["scores"])


@dsl.pipeline(name="imported")
def imported(uri: str):
    brought = dsl.importer(artifact_uri=uri, artifact_class=Dataset, reimport=True)
    read(data=brought.output)


@dsl.pipeline(name="single")
def single(rows: int = 5):
    produce(rows=rows)


class Site:
    """A server, its store and a client of it."""

    def __init__(self, server, store):
        self.server, self.store = server, store
        self.client = kfp.Client(host=server.url)

    def run(self, pipeline, root, seconds=180, **arguments):
        created = self.client.create_run_from_pipeline_func(pipeline, arguments=arguments, pipeline_root=root, enable_caching=False)
        run = self.server.wait(created.run_id, seconds)
        return run, self.server.tasks(created.run_id)

    def artifact(self, task, name):
        [found] = task["output_artifacts"][name]["ids"]
        return self.server.artifact(found)


def succeeded(run, tasks):
    messages = {path: task.get("message", "") for path, task in tasks.items() if task.get("message")}
    equal(run["state"], "SUCCEEDED", messages)


def output(task, name="Output"):
    return task["output_parameters"][name]


@suite.test
def artifacts_go_to_the_store_and_come_back(site):
    before = set(site.store.keys())
    run, tasks = site.run(remote, "s3://data/team")
    succeeded(run, tasks)
    base = f"s3://data/team/remote/{run['run_id']}/"
    assert output(tasks["produce"]).startswith(base), tasks["produce"]
    equal(output(tasks["consume"]), "10 a.txt sub/b.txt 2 5 False")
    equal(output(tasks["read"]), "x\n1\n2\n3\n4\n")
    equal(output(tasks["read-2"]), "zero\n1\n2\n3\n4\n")
    assert output(tasks["beside"]).startswith(base), tasks["beside"]
    equal(output(tasks["shell"], "uri"), site.artifact(tasks["shell"], "out")["uri"])
    keys = [key for key in site.store.keys() if key not in before]
    equal(len([key for key in keys if key.endswith(("/data", "/a.txt", "/sub/b.txt", "/chosen", "/copy", "/out"))]), 7, keys)
    data, folder = site.artifact(tasks["produce"], "data"), site.artifact(tasks["produce"], "folder")
    equal((data["present"], int(data["size_bytes"]), len(data["sha256"])), (True, 10, 64))
    equal((folder["directory"], int(folder["size_bytes"])), (True, len("a.txtsub/b.txt")))
    scores = site.artifact(tasks["produce"], "scores")
    equal((scores.get("present", False), scores["metadata"]["rows"]), (False, 5))
    own = site.artifact(tasks["beside"], "own")
    equal((own["uri"], int(own["size_bytes"])), (output(tasks["beside"]), len("chosen place")))
    content_is_read(site, data, folder)
    deletion_takes_what_is_in_the_store(site, run["run_id"])


def content_is_read(site, data, folder):
    files = site.server.get(f"/apis/flumina.pipelines/v1/artifacts/{folder['artifact_id']}/files")
    equal([file["path"] for file in files["files"]], ["a.txt", "sub/b.txt"])
    target = site.store.folder / "got"
    for artifact, path, text in ((data, "", "0\n1\n2\n3\n4\n"), (folder, "sub/b.txt", "sub/b.txt")):
        command = [flumina(), "--server", site.server.url, "artifact", "get", str(artifact["artifact_id"]), "--to", str(target)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        equal((target / path if path else target).read_text(), text)
        target.unlink() if target.is_file() else shutil.rmtree(target)


def deletion_takes_what_is_in_the_store(site, run_id):
    assert any(run_id in key for key in site.store.keys())
    kept = site.store.bucket / "team/remote/kept"
    kept.write_text("somebody else's")
    # A store that fails is asked again.
    with site.store.failing(method="GET", contains="list-type=2", status=403, times=1):
        site.client.delete_run(run_id)
        deadline = time.monotonic() + 60
        while any(run_id in key for key in site.store.keys()):
            assert time.monotonic() < deadline, site.store.keys()
            time.sleep(0.1)
    while site.server.call("GET", f"/apis/flumina.pipelines/v1/runs/{run_id}")[0] != 404:
        assert time.monotonic() < deadline, "the run is still there"
        time.sleep(0.1)
    equal(kept.read_text(), "somebody else's")


@suite.test
def every_scheme_of_the_configuration_is_a_root(site):
    for root in ("minio://data/minio", f"{site.store.folder}/mounted/runs"):
        run, tasks = site.run(pair, root)
        succeeded(run, tasks)
        uri = site.artifact(tasks["consume"], "copy")["uri"]
        assert uri.startswith(root), uri


@suite.test
def what_an_importer_names_is_fetched_by_who_reads_it(site):
    (site.store.bucket / "table.csv").write_text("1,2,3\n")
    asked = len(site.store.tell("asked").splitlines())
    run, tasks = site.run(imported, "", uri="s3://data/table.csv")
    succeeded(run, tasks)
    equal(output(tasks["read"]), "1,2,3\n")
    reads = [line for line in site.store.tell("asked").splitlines()[asked:] if line.startswith("GET /data/table.csv")]
    equal(len(reads), 1, reads)
    for uri, words in (
        ("s3://data/none", ["s3://data/none", "no content"]),
        ("ftp://host/x", ["ftp://host/x", "the schemes are"]),
    ):
        run, tasks = site.run(imported, "", uri=uri)
        equal(run["state"], "FAILED")
        message = tasks["read"]["message"]
        assert all(word in message for word in words), message


@suite.test
def roots_that_cannot_be_written_are_refused_at_the_call(site):
    for root, word in (
        ("ftp://host/x", "the schemes are"),
        ("https://host/x", "can only be read"),
        ("gs://nobody/x", "can sign in to"),
        ("s3://other/x", "can sign in to"),
    ):
        try:
            site.client.create_run_from_pipeline_func(single, pipeline_root=root)
        except Exception as error:  # noqa: BLE001
            assert word in str(error) and "pipeline_root" in str(error), error
        else:
            raise AssertionError(f"{root} was taken")


@suite.test
def a_store_that_refuses_fails_the_step_by_name(site):
    for words, said in (({"status": 403}, "403"), ({"cut": 0}, "no answer"), ({"status": 500}, "500")):
        with site.store.failing(method="PUT", contains="/folder/sub/b.txt", times=100, **words):
            run, tasks = site.run(single, "s3://data/broken")
        equal(run["state"], "FAILED")
        message = tasks["produce"]["message"]
        assert said in message and "s3://data/broken/" in message and "/folder/sub/b.txt" in message, message
        text = json.dumps([run, tasks, site.server.text()])
        assert SECRET not in text and "Signature=" not in text, text
        equal(tasks["produce"].get("output_artifacts", {}), {})
        equal([key for key in site.store.keys("broken/") if "folder" in key], [])


@suite.test
def secrets_are_in_private_files_only(site):
    found = []
    for path in site.server.data.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 20:
            content = path.read_bytes()
            # The configuration names a file; the secret itself is nowhere else.
            assert SECRET.encode() not in content, path
            if str(site.store.secret).encode() in content:
                found.append(path)
    assert found and all(path.stat().st_mode & 0o077 == 0 for path in found), found
    equal({path.parent.name for path in found}, {"stores"})


def main():
    store = Store()
    try:
        with suite.guard("the server"), Server(config=store.config()) as server:
            suite.run(Site(server, store), workers=1)
    finally:
        store.close()
    suite.close()
