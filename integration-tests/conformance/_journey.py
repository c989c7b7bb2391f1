"""The way of a user through the unmodified kfp client, shared by every version of the SDK that we promise."""

import json
import os
import pathlib
import sys
import tempfile
import time
import warnings

import _harness
from _harness import Server, Suite, equal

warnings.simplefilter("ignore")
os.environ["KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT"] = "true"
# The client reads its user's context file, found by HOME when it is imported.
_home = os.environ.get("HOME", "/")
os.environ["HOME"] = tempfile.mkdtemp(prefix="flumina-home-")
import kfp  # noqa: E402
import kfp_server_api  # noqa: E402
from kfp import compiler, dsl  # noqa: E402

os.environ["HOME"] = _home
import _artifacts  # noqa: E402, F401
import _pipelines  # noqa: E402
from _cases import CASES  # noqa: E402

suite = Suite()
EQUALS, IS_SUBSTRING, IN = 1, 9, 8


def predicate(key, value, operation=EQUALS):
    field = "stringValues" if operation == IN else "stringValue"
    value = {"values": value} if operation == IN else value
    return json.dumps({"predicates": [{"operation": operation, "key": key, field: value}]})


def refused(status, call, *arguments, **named):
    """The error body of a call that must fail with this status."""
    try:
        call(*arguments, **named)
    except kfp_server_api.ApiException as error:
        equal(error.status, status, error.body)
        body = json.loads(error.body)
        assert body["message"] and body["code"] and body["details"][0]["message"] == body["message"], body
        return body
    raise AssertionError(f"{call.__name__} was not refused")


@dsl.container_component
def hello(name: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="alpine", command=["sh", "-c", 'echo "hello $0"; printf "hello $0" >"$1"'], args=[name, out])


@dsl.pipeline(name="hello", description="Says hello.")
def hello_pipeline(name: str = "world"):
    hello(name=name)


@dsl.container_component
def wait_for(file: str):
    return dsl.ContainerSpec(image="alpine", command=["sh", "-c", 'echo waiting; while [ ! -e "$0" ]; do sleep 0.05; done'], args=[file])


@dsl.pipeline(name="waiting")
def waiting_pipeline(file: str):
    wait_for(file=file)


def package(folder, pipeline=None, name="hello.yaml"):
    path = str(folder / name)
    compiler.Compiler().compile(pipeline or hello_pipeline, path)
    return path


def hello_output(server, run_id):
    return server.tasks(run_id)["hello"]["output_parameters"]["out"]


def wait(client, run_id, seconds=120):
    return client.wait_for_run_completion(run_id, timeout=seconds, sleep_duration=0.2)


@suite.test
def the_client_is_constructed_and_sees_one_user(server, client, folder):
    health = client.get_kfp_healthz()
    equal(bool(health.multi_user), False)
    equal(client.get_user_namespace(), "")


@suite.test
def pipelines_are_uploaded_listed_and_deleted(server, client, folder):
    path = package(folder, name="catalogue.yaml")
    made = client.upload_pipeline(path, pipeline_name="catalogue", description="for the list")
    equal((made.display_name, made.description), ("catalogue", "for the list"))
    assert made.created_at.year >= 2024
    body = refused_upload(client, path)
    assert "catalogue" in body, body
    equal(client.get_pipeline_id("catalogue"), made.pipeline_id)
    equal(client.get_pipeline(made.pipeline_id).display_name, "catalogue")
    second = client.upload_pipeline_version(path, "two", pipeline_id=made.pipeline_id, description="newer")
    third = client.upload_pipeline_version(path, "three", pipeline_name="catalogue")
    equal((second.pipeline_id, second.display_name, second.description), (made.pipeline_id, "two", "newer"))
    versions = client.list_pipeline_versions(made.pipeline_id, page_size=2, sort_by="created_at asc")
    equal([version.display_name for version in versions.pipeline_versions], ["catalogue", "two"])
    rest = client.list_pipeline_versions(
        made.pipeline_id, page_size=2, sort_by="created_at asc", page_token=versions.next_page_token
    )
    equal([version.display_name for version in rest.pipeline_versions], ["three"])
    assert not rest.next_page_token
    got = client.get_pipeline_version(made.pipeline_id, third.pipeline_version_id)
    equal(got.pipeline_spec["pipelineInfo"]["name"], "hello")
    found = client.list_pipelines(filter=predicate("display_name", "talog", IS_SUBSTRING))
    equal([pipeline.pipeline_id for pipeline in found.pipelines], [made.pipeline_id])
    refused(400, client.delete_pipeline, made.pipeline_id)
    for version in (second, third, versions.pipeline_versions[0]):
        client.delete_pipeline_version(made.pipeline_id, version.pipeline_version_id)
    client.delete_pipeline(made.pipeline_id)
    refused(404, client.get_pipeline, made.pipeline_id)
    refused(404, client.get_pipeline_version, made.pipeline_id, third.pipeline_version_id)
    equal(client.get_pipeline_id("catalogue"), None)


def refused_upload(client, path):
    try:
        client.upload_pipeline(path, pipeline_name="catalogue")
    except kfp_server_api.ApiException as error:
        equal(error.status, 409, error.body)
        return json.loads(error.body)["error_message"]
    raise AssertionError("a name was given twice")


@suite.test
def a_run_from_a_function(server, client, folder):
    made = client.create_run_from_pipeline_func(
        hello_pipeline, arguments={"name": "function"}, run_name="from a function", experiment_name="functions"
    )
    run = wait(client, made.run_id)
    equal((run.state, run.display_name), ("SUCCEEDED", "from a function"))
    assert run.created_at <= run.finished_at, (run.created_at, run.finished_at)
    equal(run.runtime_config.parameters, {"name": "function"})
    equal(hello_output(server, made.run_id), "hello function")
    equal(client.get_experiment(experiment_name="functions").experiment_id, run.experiment_id)
    equal([status.state for status in run.state_history][-1], "SUCCEEDED")
    names = {task.display_name for task in run.run_details.task_details}
    assert "hello" in names, names
    # The form that polls on its own.
    equal(made.wait_for_run_completion(timeout=60).state, "SUCCEEDED")


@suite.test
def a_run_from_a_package_goes_to_the_default_experiment(server, client, folder):
    made = client.create_run_from_pipeline_package(package(folder, name="package.yaml"), enable_caching=False)
    run = wait(client, made.run_id)
    equal(run.state, "SUCCEEDED")
    equal(client.get_experiment(run.experiment_id).display_name, "Default")
    equal(hello_output(server, made.run_id), "hello world")
    equal(run.pipeline_spec["pipelineInfo"]["name"], "hello")


@suite.test
def a_run_of_an_uploaded_version(server, client, folder):
    path = package(folder, name="version.yaml")
    made = client.upload_pipeline(path, pipeline_name="versions")
    version = client.upload_pipeline_version(path, "versions 2", pipeline_id=made.pipeline_id)
    experiment = client.create_experiment("versions", description="of a pipeline")
    run = client.run_pipeline(
        experiment.experiment_id,
        "by ids",
        pipeline_id=made.pipeline_id,
        version_id=version.pipeline_version_id,
        params={"name": "ids"},
    )
    run = wait(client, run.run_id)
    equal(run.state, "SUCCEEDED")
    equal(run.pipeline_version_reference.pipeline_version_id, version.pipeline_version_id)
    assert run.pipeline_spec is None, "a run of a version has no copy of its specification"
    equal(hello_output(server, run.run_id), "hello ids")
    # A package is the other way to name what runs.
    other = client.run_pipeline(experiment.experiment_id, "by file", pipeline_package_path=path)
    equal(wait(client, other.run_id).state, "SUCCEEDED")


@suite.test
def runs_are_listed_in_pages_by_order_and_filter(server, client, folder):
    experiment = client.create_experiment("listing")
    path = package(folder, name="listing.yaml")
    runs = [
        client.run_pipeline(experiment.experiment_id, name, pipeline_package_path=path)
        for name in ("cherry", "apple", "banana", "apricot", "blueberry")
    ]

    def names(**options):
        found, token = [], ""
        while True:
            page = client.list_runs(experiment_id=experiment.experiment_id, page_token=token, page_size=2, **options)
            found += [run.display_name for run in page.runs or []]
            token = page.next_page_token
            if not token:
                return found, page.total_size or 0

    equal(names(sort_by="name"), (["apple", "apricot", "banana", "blueberry", "cherry"], 5))
    equal(names(sort_by="display_name desc")[0], ["cherry", "blueberry", "banana", "apricot", "apple"])
    equal(names(sort_by="created_at desc")[0], ["blueberry", "apricot", "banana", "apple", "cherry"])
    equal(names(sort_by="name", filter=predicate("name", "ap", IS_SUBSTRING)), (["apple", "apricot"], 2))
    equal(names(filter=predicate("name", "nothing")), ([], 0))
    equal(names(sort_by="name", filter=predicate("display_name", ["apple", "cherry", "x"], IN))[0], ["apple", "cherry"])
    for run in runs:
        wait(client, run.run_id)
    equal(names(filter=predicate("state", "SUCCEEDED"))[1], 5)
    client.archive_run(runs[0].run_id)
    equal(names(filter=predicate("storage_state", "ARCHIVED"))[0], ["cherry"])
    equal(names()[1], 5)
    page = client.list_runs(experiment_id=experiment.experiment_id, page_size=2, sort_by="name")
    body = refused(400, client.list_runs, page_token=page.next_page_token, sort_by="created_at")
    assert "token" in body["message"] or "sort" in body["message"], body
    refused(400, client.list_runs, page_token="bm90IG91cnM")
    body = refused(400, client.list_runs, filter=predicate("colour", "red"))
    assert "colour" in body["message"], body
    refused(400, client.list_runs, sort_by="colour")
    refused(400, client.list_runs, filter="{not json")


@suite.test
def experiments_live_and_die(server, client, folder):
    made = client.create_experiment("laboratory", description="first")
    equal((made.display_name, made.description, made.storage_state), ("laboratory", "first", "AVAILABLE"))
    equal(client.create_experiment("laboratory").experiment_id, made.experiment_id)
    equal(client.get_experiment(made.experiment_id).display_name, "laboratory")
    found = client.list_experiments(sort_by="name", filter=predicate("name", "laboratory"))
    equal([one.experiment_id for one in found.experiments], [made.experiment_id])
    run = client.run_pipeline(made.experiment_id, "inside", pipeline_package_path=package(folder, name="lab.yaml"))
    wait(client, run.run_id)
    client.archive_experiment(made.experiment_id)
    equal(client.get_experiment(made.experiment_id).storage_state, "ARCHIVED")
    equal(client.get_run(run.run_id).storage_state, "ARCHIVED")
    refused(400, client.unarchive_run, run.run_id)
    client.unarchive_experiment(made.experiment_id)
    equal(client.get_run(run.run_id).storage_state, "ARCHIVED")
    client.unarchive_run(run.run_id)
    equal(client.get_run(run.run_id).storage_state, "AVAILABLE")
    client.delete_experiment(made.experiment_id)
    refused(404, client.get_experiment, made.experiment_id)
    equal(client.get_run(run.run_id).display_name, "inside")
    default = client.get_experiment(experiment_name="Default")
    refused(400, client.delete_experiment, default.experiment_id)


@suite.test
def runs_are_terminated_and_deleted(server, client, folder):
    file = folder / "never"
    made = client.create_run_from_pipeline_func(waiting_pipeline, arguments={"file": str(file)})
    logs(server, client, made.run_id)
    equal(client.get_run(made.run_id).state, "RUNNING")
    client.terminate_run(made.run_id)
    run = wait(client, made.run_id, 30)
    # The client knows no other end of a stopped run; the true one is in the own API.
    equal(run.state, "FAILED")
    equal(server.wait(made.run_id)["state"], "CANCELED")
    client.archive_run(made.run_id)
    equal(client.get_run(made.run_id).storage_state, "ARCHIVED")
    client.unarchive_run(made.run_id)
    client.delete_run(made.run_id)
    body = refused(404, client.get_run, made.run_id)
    assert made.run_id in body["message"], body
    refused(404, client.terminate_run, made.run_id)
    # A run that still runs is stopped by its deletion.
    made = client.create_run_from_pipeline_func(waiting_pipeline, arguments={"file": str(file)})
    client.delete_run(made.run_id)
    refused(404, client.get_run, made.run_id)


def logs(server, client, run_id):
    """Follows the log of a task that is still running, then lets go."""
    deadline = time.monotonic() + 30
    while True:
        tasks = server.tasks(run_id)
        if tasks and tasks.get("wait-for", {}).get("state") == "RUNNING":
            break
        assert time.monotonic() < deadline, tasks
        time.sleep(0.05)
    url = f"{server.url}/apis/v1alpha1/runs/{run_id}/nodes/{tasks['wait-for']['task_id']}/log?follow=true"
    with _harness.OPENER.open(url, timeout=20) as answer:
        equal(answer.readline(), b"waiting\n")


@suite.test
def wrong_arguments_are_refused_by_name(server, client, folder):
    def create(arguments, pipeline=_pipelines.every_type_pipeline):
        return refused(400, client.create_run_from_pipeline_func, pipeline, arguments=arguments)["message"]

    assert "text" in create({}), "a missing parameter"
    assert "colour" in create({"text": "x", "colour": "red"}), "an unknown parameter"
    for name, value in (("whole", "seven"), ("whole", 1.5), ("real", "x"), ("flag", "maybe"), ("items", {}), ("table", [])):
        message = create({"text": "x", name: value})
        assert name in message, message
    refused(404, client.get_run, "0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea10")
    refused(404, client.run_pipeline, client.get_experiment(experiment_name="Default").experiment_id, "gone",
            pipeline_id="0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea10", version_id="0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea11")


@suite.test
def a_token_is_asked_for_and_accepted(server, client, folder):
    with Server(token="s3cret-token-of-the-suite") as guarded:
        known = kfp.Client(host=guarded.url, existing_token=guarded.token)
        path = package(folder, name="token.yaml")
        equal(known.upload_pipeline(path, pipeline_name="guarded").display_name, "guarded")
        made = known.create_run_from_pipeline_package(path)
        equal(wait(known, made.run_id).state, "SUCCEEDED")
        for status, _, _ in (
            guarded.call("GET", "/apis/v2beta1/runs", headers={"Authorization": "Bearer wrong"}),
            guarded.call("GET", "/apis/v2beta1/runs", headers={"Authorization": ""}),
        ):
            equal(status, 401)
        stranger = kfp.Client(host=guarded.url, existing_token="wrong", namespace="x")
        refused(401, stranger.list_pipelines)


def cases(server, client, folder):
    """Submits all pipelines at once, then looks at each as it ends."""
    started = {}

    def submit(name, pipeline, arguments):
        given = arguments(folder) if callable(arguments) else arguments
        started[name] = client.create_run_from_pipeline_func(pipeline, arguments=given).run_id

    def look(name, state, check):
        run = server.wait(started[name], 240)
        equal(run["state"], state, run.get("message"))
        check(server, run, server.tasks(started[name]))

    for name, (pipeline, arguments, state, check) in CASES.items():
        try:
            submit(name, pipeline, arguments)
        except kfp_server_api.ApiException as error:
            suite.failures.append(name)
            _harness.say(f"FAILED {name}: {error.status} {error.body}")
            continue
        suite.add(name, lambda *_, name=name, state=state, check=check: look(name, state, check))


def main(version, extra=None):
    """The suite of one version of the SDK."""
    sys.stdout = open(os.devnull, "w")
    with suite.guard("the environment has this version"):
        equal(kfp.__version__, version)
    with suite.guard("the server"), Server() as server, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        client = kfp.Client(host=server.url)
        if extra:
            extra(suite, client)
        # The pipelines run while the client goes its way.
        journey, suite.tests = suite.tests, []
        cases(server, client, folder)
        suite.tests = journey + suite.tests
        suite.run(server, client, folder, workers=3)
    suite.close()
