# python: kfp-2.17
"""Steps that need not run again, through the SDK: each execution leaves a line in a file, and lines are counted."""

import contextlib
import datetime
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings

from _harness import Server, Suite, equal, flumina

warnings.simplefilter("ignore")
import kfp  # noqa: E402
from kfp import compiler, dsl  # noqa: E402
from kfp.dsl import Dataset, Input, Model, Output  # noqa: E402

OWN = "/apis/flumina.pipelines/v1"
KFP = "/apis/v2beta1"
# The SDK compiles one pipeline at a time in a process.
COMPILER = threading.RLock()
suite = Suite()


@dsl.component
def prepare(log: str, rows: int, table: Output[Dataset]) -> int:
    with open(log, "a") as file:
        file.write("prepare\n")
    with open(table.path, "w") as file:
        file.write("row\n" * rows)
    table.metadata["rows"] = rows
    return rows


@dsl.component
def train(log: str, table: Input[Dataset], depth: int, model: Output[Model]) -> float:
    with open(log, "a") as file:
        file.write("train\n")
    with open(table.path) as file:
        rows = len(file.readlines())
    with open(model.path, "w") as file:
        file.write(f"{rows} {depth}")
    return rows * depth / 10


@dsl.component
def gated(folder: str, gate: str) -> str:
    """Waits for a file; fails when there is none that says otherwise."""
    import os
    import time

    with open(f"{folder}/log", "a") as file:
        file.write("gated\n")
    while not os.path.exists(f"{folder}/{gate}"):
        time.sleep(0.02)
    with open(f"{folder}/{gate}") as file:
        text = file.read()
    if text.startswith("fail"):
        os.rename(f"{folder}/{gate}", f"{folder}/failed")
        raise ValueError(text)
    return text


def two_steps(name="cached", prepare_options=None, train_options=None, env=None):
    with COMPILER:
        return compiled(name, prepare_options, train_options, env or {})


def compiled(name, prepare_options, train_options, env):
    @dsl.pipeline(name=name)
    def pipeline(log: str, rows: int = 3, depth: int = 2) -> float:
        first = prepare(log=log, rows=rows)
        second = train(log=log, table=first.outputs["table"], depth=depth)
        if prepare_options is not None:
            first.set_caching_options(*prepare_options)
        if train_options is not None:
            second.set_caching_options(*train_options)
        for variable, text in env.items():
            second.set_env_variable(variable, text)
        return second.outputs["Output"]

    return pipeline


@dsl.pipeline(name="gated")
def gated_pipeline(folder: str, gate: str = "gate") -> str:
    return gated(folder=folder, gate=gate).output


@dsl.pipeline(name="twice")
def twice(folder: str):
    gated(folder=folder, gate="gate")
    gated(folder=folder, gate="gate")


class World:
    """A server, a client, and a log of executions for each test."""

    def __init__(self, server):
        self.server = server
        self.client = kfp.Client(host=server.url)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=server.folder))
        self.log = self.folder / "log"

    def submit(self, pipeline, arguments=None, **options):
        given = {"log": str(self.log), **(arguments or {})}
        with COMPILER:
            return self.client.create_run_from_pipeline_func(pipeline, arguments=given, **options).run_id

    def run(self, pipeline, arguments=None, state="SUCCEEDED", **options):
        """The id, the run and its tasks, once it has ended."""
        run_id = self.submit(pipeline, arguments, **options)
        run = self.server.wait(run_id)
        equal(run["state"], state, run.get("message"))
        return run_id, run, self.server.tasks(run_id)

    def lines(self):
        return self.log.read_text().split() if self.log.exists() else []

    def gated(self):
        arguments = {"folder": str(self.folder)}
        with COMPILER:
            return self.client.create_run_from_pipeline_func(gated_pipeline, arguments=arguments).run_id

    def until(self, what, probe, seconds=30):
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
            time.sleep(0.02)
        return found

    def stored(self, run_id):
        with contextlib.closing(sqlite3.connect(f"file:{self.server.data}/pipeline-orchestrator.sqlite?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM runs WHERE id = ?", [run_id]).fetchone()[0]

    def one_of_two(self):
        """Two equal runs whose step waits at the gate: the one that runs, and the one that waits for it."""
        runs = [self.gated(), self.gated()]
        tasks = lambda: [self.server.tasks(run).get("gated", {}) for run in runs]  # noqa: E731

        def settled():
            found = [task.get("cache", {}).get("awaited_run_id") for task in tasks()]
            started = self.lines() == ["gated"]
            return (runs if not found[0] else runs[::-1]) if started and any(found) else None

        leader, waiter = self.until("one waits", settled)
        task = self.server.tasks(waiter)["gated"]
        equal((task["state"], task["reason"]), ("PENDING", "SAME_STEP_RUNS"))
        equal(task["message"], f"waits for the same step of run {leader}")
        equal(task["cache"]["awaited_run_id"], leader)
        return leader, waiter

    def open_gate(self, text="open"):
        (self.folder / "new").write_text(text)
        os.rename(self.folder / "new", self.folder / "gate")

    def cli(self, *words, code=0):
        command = [flumina(), "--server", self.server.url, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        equal(done.returncode, code, done.stderr)
        return done.stdout

    def entries(self, run_id):
        return self.server.get(f"{OWN}/cache?run_id={run_id}").get("entries", [])

    def artifact(self, task, name):
        [found] = task["output_artifacts"][name]["ids"]
        return self.server.artifact(found)


def states(tasks):
    return {path: task["state"] for path, task in tasks.items() if path}


BOTH = {"prepare": "CACHED", "train": "CACHED"}


@suite.test
def a_second_run_takes_both_outputs(world):
    first, run, before = world.run(two_steps())
    equal(world.lines(), ["prepare", "train"])
    equal(run["outputs"], {"Output": 0.6})
    second, run, tasks = world.run(two_steps())
    equal(world.lines(), ["prepare", "train"])
    equal(states(tasks), BOTH)
    equal(run["outputs"], {"Output": 0.6})
    for path in BOTH:
        task, source = tasks[path], before[path]
        equal(task["cache"]["source_run_id"], first)
        equal(task["cache"]["source_task_id"], source["task_id"])
        assert first in task["message"], task["message"]
        equal(task["output_artifacts"], source["output_artifacts"])
        equal(task.get("attempts", []), [])
    details = world.server.get(f"{KFP}/runs/{second}")
    equal(details["state"], "SUCCEEDED")
    shown = {task["display_name"]: task["state"] for task in details["run_details"]["task_details"]}
    equal((shown["prepare"], shown["train"]), ("SKIPPED", "SKIPPED"))
    # A cached task is no source of its own.
    equal(world.entries(second), [])
    world.run(two_steps())
    equal([entry["hits"] for entry in world.entries(first)], ["2", "2"])


@suite.test
def what_changed_runs_and_the_rest_does_not(world):
    world.run(two_steps())
    _, run, tasks = world.run(two_steps(), {"depth": 5})
    equal(states(tasks), {"prepare": "CACHED", "train": "SUCCEEDED"})
    equal((world.lines(), run["outputs"]), (["prepare", "train", "train"], {"Output": 1.5}))
    _, _, tasks = world.run(two_steps(), {"rows": 4})
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})
    # The environment of a step counts too.
    _, _, tasks = world.run(two_steps(env={"MORE": "1"}))
    equal(states(tasks), {"prepare": "CACHED", "train": "SUCCEEDED"})


@suite.test
def other_pipelines_have_their_own(world):
    world.run(two_steps("cached-here"))
    _, _, tasks = world.run(two_steps("cached-there"))
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})


@suite.test
def a_task_can_do_without(world):
    world.run(two_steps(prepare_options=(False,)))
    # The new artifact is another one, so what takes it runs too.
    _, _, tasks = world.run(two_steps(prepare_options=(False,)))
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})
    assert "cache" not in tasks["prepare"], tasks["prepare"]
    _, _, tasks = world.run(two_steps(train_options=(False,)))
    # A task that does without leaves nothing either.
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})


@suite.test
def a_run_can_do_without(world):
    world.run(two_steps())
    run_id, _, tasks = world.run(two_steps(), enable_caching=False)
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})
    equal(world.entries(run_id), [])
    _, _, tasks = world.run(two_steps(), enable_caching=True)
    equal(states(tasks), BOTH)


@suite.test
def a_key_of_ones_own_decides_alone(world):
    key = world.folder.name
    options = {"prepare_options": (True, key), "train_options": (True, key)}
    world.run(two_steps(**options))
    _, run, tasks = world.run(two_steps(**options), {"rows": 50, "depth": 7})
    equal((states(tasks), run["outputs"]), (BOTH, {"Output": 0.6}))
    equal(tasks["train"]["cache"]["key_kind"], "GIVEN")
    world.run(two_steps(), {"rows": 9}, enable_caching=True, cache_key=f"{key}-run")
    _, run, tasks = world.run(two_steps(), {"rows": 8}, enable_caching=True, cache_key=f"{key}-run")
    equal((states(tasks), run["outputs"]), (BOTH, {"Output": 1.8}))


@suite.test
def by_content_a_producer_may_run_again(world):
    pipeline = two_steps(prepare_options=(False,), env={"FLUMINA_CACHE": "content"})
    world.run(pipeline)
    _, run, tasks = world.run(pipeline)
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "CACHED"})
    equal((world.lines(), run["outputs"]), (["prepare", "train", "prepare"], {"Output": 0.6}))
    equal(tasks["train"]["cache"]["key_kind"], "CONTENT")
    _, _, tasks = world.run(pipeline, {"rows": 4})
    equal(states(tasks)["train"], "SUCCEEDED")


@suite.test
def a_run_chooses_by_a_header(world):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        with COMPILER:
            compiler.Compiler().compile(two_steps(prepare_options=(False,)), file.name)
        spec = json.loads(pathlib.Path(file.name).read_text())
    body = {
        "display_name": "by header",
        "pipeline_spec": spec,
        "runtime_config": {"parameters": {"log": str(world.log)}},
    }

    def run(policy):
        status, run, _ = world.server.call("POST", f"{KFP}/runs", body, {"flumina-cache": policy})
        equal(status, 200, run)
        equal(world.server.wait(run["run_id"])["state"], "SUCCEEDED")
        return states(world.server.tasks(run["run_id"]))["train"]

    equal([run(policy) for policy in ("content", "content", "off")], ["SUCCEEDED", "CACHED", "SUCCEEDED"])
    status, answer, _ = world.server.call("POST", f"{KFP}/runs", body, {"flumina-cache": "sometimes"})
    equal(status, 400, answer)
    assert "flumina-cache" in answer["message"] and "sometimes" in answer["message"], answer


@suite.test
def a_policy_that_is_none_fails_by_name(world):
    _, run, tasks = world.run(two_steps(env={"FLUMINA_CACHE": "sometimes"}), state="FAILED")
    equal(tasks["train"]["reason"], "CACHE_POLICY_INVALID")
    for word in ("`train`", "FLUMINA_CACHE", "sometimes"):
        assert word in run["message"], run["message"]


@suite.test
def results_grow_old(world):
    pipeline = two_steps(env={"FLUMINA_CACHE": "max-age=2"})
    run_id, _, _ = world.run(pipeline)
    [entry] = [entry for entry in world.entries(run_id) if entry["task_path"] == "train"]
    assert entry["expires_at"] > entry["created_at"], entry
    expires = datetime.datetime.fromisoformat(entry["expires_at"])
    world.until("the entry is old", lambda: datetime.datetime.now(datetime.timezone.utc) > expires)
    _, _, tasks = world.run(pipeline)
    equal(states(tasks), {"prepare": "CACHED", "train": "SUCCEEDED"})
    assert "expired" in tasks["train"]["cache"]["note"], tasks["train"]


@suite.test
def a_result_whose_artifact_is_gone_is_not_used(world):
    _, _, tasks = world.run(two_steps())
    table = world.artifact(tasks["prepare"], "table")
    os.remove(table["uri"].removeprefix("file://"))
    second, _, tasks = world.run(two_steps())
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})
    note = tasks["prepare"]["cache"]["note"]
    assert "`table`" in note and "gone" in note, note
    assert note in world.cli("run", "get", second)
    _, _, tasks = world.run(two_steps())
    equal(states(tasks), BOTH)


@suite.test
def a_result_can_be_inspected_and_forgotten(world):
    first, _, _ = world.run(two_steps())
    second, _, tasks = world.run(two_steps())
    found = {entry["task_path"]: entry for entry in world.entries(first)}
    equal(sorted(found), ["prepare", "train"])
    entry = world.server.get(f"{OWN}/cache/{found['train']['entry_id']}")
    equal((entry["run_id"], entry["pipeline_name"], entry["key_kind"]), (first, "cached", "IDENTITY"))
    equal(entry["output_parameters"], {"Output": 0.6})
    equal(entry["used_by"], [{"run_id": second, "task_id": tasks["train"]["task_id"]}])
    shown = world.cli("cache", "get", entry["entry_id"])
    assert first in shown and second in shown, shown
    assert entry["entry_id"] in world.cli("cache", "list", "--run", first)

    world.cli("cache", "delete", entry["entry_id"])
    world.cli("cache", "get", entry["entry_id"], code=4)
    status, answer, _ = world.server.call("DELETE", f"{OWN}/cache/{entry['entry_id']}")
    equal(status, 404, answer)
    _, _, tasks = world.run(two_steps())
    equal(states(tasks), {"prepare": "CACHED", "train": "SUCCEEDED"})


@suite.test
def entries_have_pages_and_go_by_pipeline(world):
    name = f"cached-{world.folder.name.replace('_', '-')}".lower()
    for rows in range(2):
        world.run(two_steps(name), {"rows": rows})
    whole = world.server.get(f"{OWN}/cache?pipeline_name={name}")["entries"]
    equal([entry["task_path"] for entry in whole], ["train", "prepare"] * 2)
    pages, token = [], ""
    while token or not pages:
        page = world.server.get(f"{OWN}/cache?pipeline_name={name}&page_size=3&page_token={token}")
        pages.append(page["entries"])
        token = page.get("next_page_token", "")
    equal([len(page) for page in pages], [3, 1])
    equal(sum(pages, []), whole)
    world.cli("cache", "delete", "--pipeline", name, "--task", "train")
    left = world.server.get(f"{OWN}/cache?pipeline_name={name}")["entries"]
    equal([entry["task_path"] for entry in left], ["prepare"] * 2)


@suite.test
def the_command_line_submits_without(world):
    file = world.folder / "pipeline.yaml"
    with COMPILER:
        compiler.Compiler().compile(two_steps(), str(file))
    submit = ("run", "submit", str(file), "-p", f"log={world.log}", "--watch")
    world.cli(*submit)
    world.cli(*submit)
    equal(world.lines(), ["prepare", "train"])
    world.cli(*submit, "--cache", "off")
    equal(world.lines(), ["prepare", "train"] * 2)


@suite.test
def equal_steps_of_two_runs_run_once(world):
    leader, waiter = world.one_of_two()
    world.open_gate()
    for run in (leader, waiter):
        found = world.server.wait(run)
        equal((found["state"], found["outputs"]), ("SUCCEEDED", {"Output": "open"}))
    equal(world.lines(), ["gated"])
    task = world.server.tasks(waiter)["gated"]
    equal((task["state"], task["cache"]["source_run_id"]), ("CACHED", leader))


@suite.test
def equal_steps_of_one_run_run_once(world):
    world.open_gate()
    arguments = {"folder": str(world.folder)}
    with COMPILER:
        run = world.client.create_run_from_pipeline_func(twice, arguments=arguments).run_id
    equal(world.server.wait(run)["state"], "SUCCEEDED")
    equal(world.lines(), ["gated"])
    found = states(world.server.tasks(run))
    equal(sorted(found.values()), ["CACHED", "SUCCEEDED"])


@suite.test
def the_next_leads_when_the_first_fails(world):
    leader, waiter = world.one_of_two()
    world.open_gate("fail now")
    equal(world.server.wait(leader)["state"], "FAILED")
    world.until("the next runs", lambda: world.lines() == ["gated"] * 2)
    world.open_gate()
    equal(world.server.wait(waiter)["state"], "SUCCEEDED")
    equal(world.server.tasks(waiter)["gated"]["state"], "SUCCEEDED")


@suite.test
def the_next_leads_when_the_first_is_stopped_or_deleted(world):
    for stop in ("terminate", "delete"):
        world.log.unlink(missing_ok=True)
        leader, waiter = world.one_of_two()
        if stop == "terminate":
            world.client.terminate_run(leader)
        else:
            world.client.delete_run(leader)
        world.until("the next runs", lambda: world.lines() == ["gated"] * 2)
        equal(world.server.tasks(waiter)["gated"]["state"], "RUNNING")
        world.client.terminate_run(waiter)
        equal(world.server.wait(waiter)["state"], "CANCELED")


@suite.test
def one_that_waits_can_be_stopped(world):
    leader, waiter = world.one_of_two()
    world.client.terminate_run(waiter)
    equal(world.server.wait(waiter)["state"], "CANCELED")
    world.open_gate()
    equal(world.server.wait(leader)["state"], "SUCCEEDED")
    equal(world.lines(), ["gated"])


@suite.test
def many_equal_runs_run_once(world):
    runs = []
    threads = [threading.Thread(target=lambda: runs.append(world.gated())) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.until("one runs", lambda: world.lines())
    world.open_gate()
    equal({world.server.wait(run)["state"] for run in runs}, {"SUCCEEDED"})
    equal((len(runs), world.lines()), (12, ["gated"]))


@suite.test
def what_a_cached_run_uses_outlives_the_run_that_made_it(world):
    first, _, tasks = world.run(two_steps())
    table = world.artifact(tasks["prepare"], "table")["artifact_id"]
    second, _, _ = world.run(two_steps())
    path = f"{OWN}/artifacts/{table}/files"

    def gone(run_id):
        # The API does not show how far the removal is; the row goes last.
        world.client.delete_run(run_id)
        world.until("the run is removed", lambda: not world.stored(run_id))

    gone(first)
    equal(world.server.get(path)["files"][0]["size_bytes"], "12")
    # The entry stays with what it refers to.
    third, _, tasks = world.run(two_steps())
    equal((states(tasks), tasks["train"]["cache"]["source_run_id"]), (BOTH, first))
    gone(second)
    equal(world.server.get(path)["files"][0]["size_bytes"], "12")
    gone(third)
    world.until("the artifact is gone", lambda: world.server.call("GET", path)[0] == 404)
    equal(world.entries(first), [])
    _, _, tasks = world.run(two_steps())
    equal(states(tasks), {"prepare": "SUCCEEDED", "train": "SUCCEEDED"})


def main():
    sys.stdout = open(os.devnull, "w")
    with suite.guard("the server"), Server() as server:
        suite.tests = [(name, lambda test=test: test(World(server))) for name, test in suite.tests]
        suite.run(workers=4)
    suite.close()


if __name__ == "__main__":
    main()
