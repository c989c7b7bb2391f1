# python: kfp-2.17
"""Retries, limits of time, stopping and going on, through the SDK: what ran is counted from files that steps write."""

import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

from _harness import Server, Suite, equal, flumina

warnings.simplefilter("ignore")
os.environ["KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT"] = "true"
import kfp  # noqa: E402
import kfp_server_api  # noqa: E402
import yaml  # noqa: E402
from kfp import compiler, dsl, kubernetes  # noqa: E402

KFP = "/apis/v2beta1"
suite = Suite()


@dsl.container_component
def step(folder: str, name: str, script: str):
    """Leaves a line with its name, then does what the script says in the folder."""
    return dsl.ContainerSpec(
        image="alpine",
        command=["sh", "-c", 'cd "$0" && echo "$1" >>log && count=$(grep -c "^$1\\$" log) && eval "$2"'],
        args=[folder, name, script],
    )


@dsl.component
def closing(folder: str, status: dsl.PipelineTaskFinalStatus):
    with open(f"{folder}/log", "a") as file:
        file.write(f"closing {status.state}\n")


FAILS_TWICE = 'test "$count" -gt 2'
WAITS = "while [ ! -e gate ]; do sleep 0.05; done"


class Folder:
    """Where the steps of a test leave their lines."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="flumina-retries-"))

    def lines(self):
        log = self.path / "log"
        return log.read_text().splitlines() if log.exists() else []

    def count(self, name):
        return self.lines().count(name)

    def await_line(self, name, seconds=60):
        deadline = time.monotonic() + seconds
        while name not in self.lines():
            assert time.monotonic() < deadline, f"no {name} after {seconds} s: {self.lines()}"
            time.sleep(0.05)


def start(server, pipeline, folder, **arguments):
    client = kfp.Client(host=server.url, verify_ssl=False)
    arguments = dict(arguments, folder=str(folder.path))
    return client.create_run_from_pipeline_func(pipeline, arguments=arguments).run_id


def kfp_run(server, run_id):
    return server.get(f"{KFP}/runs/{run_id}")


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


@dsl.pipeline(name="flaky")
def flaky(folder: str):
    first = step(folder=folder, name="first", script=FAILS_TWICE)
    first.set_retry(num_retries=3, backoff_duration="1s", backoff_factor=2.0)
    step(folder=folder, name="second", script="true").after(first)


@suite.test
def a_flaky_step_is_tried_again_with_growing_pauses(server):
    folder = Folder()
    run_id = start(server, flaky, folder)
    waited = set()
    while kfp_run(server, run_id)["state"] not in ("SUCCEEDED", "FAILED"):
        task = server.tasks(run_id).get("step", {})
        if "retry_at" in task:
            waited.add(task["retry_at"])
            equal(task["reason"], "RETRY_WAITS")
            assert "starts at" in task["message"] and "exit code 1" in task["message"], task
        time.sleep(0.1)
    equal(server.wait(run_id)["state"], "SUCCEEDED")
    equal(folder.lines(), ["first"] * 3 + ["second"])
    task = server.tasks(run_id)["step"]
    equal((len(task["attempts"]), task["retries"]), (3, 2))
    assert len(waited) == 2, waited
    pauses = [
        (instant(after["launched_at"]) - instant(before["ended_at"])).total_seconds()
        for before, after in zip(task["attempts"], task["attempts"][1:])
    ]
    assert 1 <= pauses[0] < 2 <= pauses[1] < 4, pauses
    details = kfp_run(server, run_id)["run_details"]["task_details"]
    detail = next(one for one in details if one["display_name"] == "step")
    equal(len(detail["executor_detail"]["failed_main_jobs"]), 2)


@dsl.pipeline(name="hopeless")
def hopeless(folder: str):
    step(folder=folder, name="only", script="exit 3").set_retry(num_retries=2)


@suite.test
def a_step_that_always_fails_is_tried_as_often_as_it_says(server):
    folder = Folder()
    run = server.wait(start(server, hopeless, folder))
    equal(run["state"], "FAILED")
    equal(folder.count("only"), 3)
    assert "exit code 3" in run["message"] and "failed 3 times" in run["message"], run


@dsl.pipeline
def inner(folder: str):
    step(folder=folder, name="inner", script=FAILS_TWICE)


@dsl.pipeline(name="nested-retry")
def nested_retry(folder: str):
    inner(folder=folder).set_retry(num_retries=2)


@suite.test
def a_nested_pipeline_lends_its_retries_to_its_steps(server):
    folder = Folder()
    equal(server.wait(start(server, nested_retry, folder))["state"], "SUCCEEDED")
    equal(folder.count("inner"), 3)


@dsl.pipeline(name="too-slow")
def too_slow(folder: str):
    kubernetes.set_timeout(step(folder=folder, name="slow", script="sleep 60"), seconds=1)


@suite.test
def a_step_has_its_limit(server):
    folder = Folder()
    run_id = start(server, too_slow, folder)
    equal(server.wait(run_id)["state"], "FAILED")
    task = server.tasks(run_id)["step"]
    equal(task["reason"], "TIMED_OUT")
    assert "limit of 1 s" in task["message"], task


@dsl.pipeline(name="overdue")
def overdue(folder: str):
    with dsl.ExitHandler(closing(folder=folder)):
        step(folder=folder, name="slow", script="sleep 60")


@suite.test
def a_run_has_its_limit_and_exit_tasks_run_after_it(server):
    folder = Folder()
    path = str(folder.path / "overdue.yaml")
    compiler.Compiler().compile(overdue, path)
    documents = list(yaml.safe_load_all(pathlib.Path(path).read_text()))
    limit = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": 3}}}}
    spec = {"pipeline_spec": documents[0], "platform_spec": limit}
    body = {
        "display_name": "overdue",
        "pipeline_spec": spec,
        "runtime_config": {"parameters": {"folder": str(folder.path)}},
    }
    status, run, _ = server.call("POST", f"{KFP}/runs", body)
    equal(status, 200, run)
    ended = server.wait(run["run_id"])
    equal(ended["state"], "FAILED")
    assert "took longer than its limit of 3 s" in ended["message"], ended
    equal(folder.lines(), ["slow", "closing CANCELED"])


@dsl.pipeline(name="guarded")
def guarded(folder: str):
    with dsl.ExitHandler(closing(folder=folder)):
        first = step(folder=folder, name="first", script=WAITS)
        step(folder=folder, name="second", script="true").after(first)


@suite.test
def a_stopped_run_runs_its_exit_task_and_ends_for_the_client(server):
    folder = Folder()
    client = kfp.Client(host=server.url, verify_ssl=False)
    run_id = start(server, guarded, folder)
    folder.await_line("first")
    client.terminate_run(run_id)
    run = client.wait_for_run_completion(run_id, timeout=60, sleep_duration=0.2)
    equal(run.state, "FAILED")
    equal([one.state for one in run.state_history], ["PENDING", "RUNNING", "CANCELING", "CANCELED"])
    equal(folder.lines(), ["first", "closing CANCELED"])
    equal(server.wait(run_id)["state"], "CANCELED")


@suite.test
def a_stopped_run_goes_on(server):
    folder = Folder()
    client = kfp.Client(host=server.url, verify_ssl=False)
    run_id = start(server, guarded, folder)
    folder.await_line("first")
    client.terminate_run(run_id)
    server.wait(run_id)
    (folder.path / "gate").touch()
    client.runs.run_service_retry_run(run_id)
    equal(server.wait(run_id)["state"], "SUCCEEDED")
    equal(folder.lines(), ["first", "closing CANCELED", "first", "second", "closing COMPLETE"])


@dsl.pipeline(name="resumed")
def resumed(folder: str):
    load = step(folder=folder, name="load", script="true")
    with dsl.ParallelFor(["a", "b", "c"]) as item:
        part = step(folder=folder, name=item, script='test "$1" != b || test -e gate').after(load)
        step(folder=folder, name="done", script="true").after(part)


@suite.test
def a_failed_run_goes_on_and_keeps_what_succeeded(server):
    folder = Folder()
    client = kfp.Client(host=server.url, verify_ssl=False)
    run_id = start(server, resumed, folder)
    equal(server.wait(run_id)["state"], "FAILED")
    before = server.tasks(run_id)
    equal([folder.count(name) for name in ("load", "a", "b", "c", "done")], [1, 1, 1, 1, 2])
    (folder.path / "gate").touch()
    client.runs.run_service_retry_run(run_id)
    equal(server.wait(run_id)["state"], "SUCCEEDED")
    equal([folder.count(name) for name in ("load", "a", "b", "c", "done")], [1, 1, 2, 1, 3])
    after = server.tasks(run_id)
    for path, task in before.items():
        equal(after[path]["task_id"], task["task_id"], path)
    states = [one["state"] for one in kfp_run(server, run_id)["state_history"]]
    equal(states, ["PENDING", "RUNNING", "FAILED", "PENDING", "RUNNING", "SUCCEEDED"])
    try:
        client.runs.run_service_retry_run(run_id)
    except kfp_server_api.ApiException as error:
        equal(error.status, 400)
        assert "only a run that failed or was stopped" in error.body, error.body
    else:
        raise AssertionError("a run that succeeded was retried")


@dsl.pipeline(name="again")
def again(folder: str, word: str, count: int = 1):
    step(folder=folder, name=word, script="test -e gate")


def command(server, *words):
    done = subprocess.run(
        [flumina(), *words], env=dict(os.environ, FLUMINA_SERVER=server.url), capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout + done.stderr


@suite.test
def the_command_line_retries_and_clones(server):
    folder = Folder()
    run_id = start(server, again, folder, word="one")
    equal(server.wait(run_id)["state"], "FAILED")
    (folder.path / "gate").touch()
    code, text = command(server, "run", "retry", run_id, "--watch")
    equal(code, 0, text)
    code, text = command(server, "run", "clone", run_id, "-p", "word=two", "-p", "count=7", "--name", "other")
    equal(code, 0, text)
    clone = text.split()[-1]
    equal(server.wait(clone)["state"], "SUCCEEDED")
    equal(folder.lines(), ["one", "one", "two"])
    parameters = kfp_run(server, clone)["runtime_config"]["parameters"]
    equal(parameters, {"folder": str(folder.path), "word": "two", "count": 7})
    equal(kfp_run(server, clone)["display_name"], "other")
    code, text = command(server, "run", "clone", run_id, "--watch")
    equal(code, 0, text)
    equal(folder.lines(), ["one", "one", "two", "one"])
    code, text = command(server, "run", "clone", run_id, "-p", "nothing=1")
    equal(code, 1, text)
    assert "nothing" in text, text


def main():
    sys.stdout = open(os.devnull, "w")
    with suite.guard("server"):
        with Server() as server:
            suite.run(server, workers=4)
    suite.close()


main()
