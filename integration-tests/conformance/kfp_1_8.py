# python: kfp-1.8
"""The unmodified kfp SDK 1.8.22 and its command line."""

import base64
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import _harness
from _harness import Server, Suite, equal

warnings.simplefilter("ignore")
_home = tempfile.mkdtemp(prefix="flumina-home-")
os.environ["HOME"] = _home
import kfp  # noqa: E402
import kfp_server_api  # noqa: E402
import _workflows as flows  # noqa: E402

suite = Suite()
KFP1 = "/apis/v1beta1"
STORE = "/apis/flumina.runner/v1/namespaces/default"
COMPILER = threading.Lock()


class World:
    """A server and a client of it."""

    def __init__(self, server):
        self.server = server
        self.client = kfp.Client(host=server.url)

    def run(self, pipeline, arguments=None, seconds=120):
        """The run of a pipeline function once it has ended, with its nodes by display name."""
        # The compiler keeps its state in a global.
        with COMPILER:
            result = self.client.create_run_from_pipeline_func(
                pipeline, arguments or {}, experiment_name="journeys"
            )
        return self.ended(result.run_id, seconds)

    def ended(self, run_id, seconds=120):
        """The run once it has ended; the client's own way to wait looks every five seconds only."""
        deadline = time.monotonic() + seconds
        while self.client.get_run(run_id).run.status not in ("Succeeded", "Failed", "Skipped", "Error"):
            assert time.monotonic() < deadline, f"the run has not ended after {seconds} s"
            time.sleep(0.1)
        return Ended(self.server, self.client.wait_for_run_completion(run_id, seconds))

    def cli(self, *words, expect=0, path=os.environ["PATH"]):
        """The output of the SDK's command."""
        command = [str(pathlib.Path(sys.executable).parent / "kfp"), "--endpoint", self.server.url, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=_home, env=dict(os.environ, PATH=path))
        assert done.returncode == expect, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout


class Ended:
    def __init__(self, server, detail):
        self.server = server
        self.run = detail.run
        self.status = detail.run.status
        self.workflow = json.loads(detail.pipeline_runtime.workflow_manifest)
        self.nodes = list(self.workflow["status"]["nodes"].values())

    def phases(self, name):
        """The phases of the nodes of a display name, in the order in which they came to be."""
        found = [node for node in self.nodes if node["displayName"] == name]
        return [node["phase"] for node in sorted(found, key=lambda node: int(node["id"]))]

    def outputs(self, name, output):
        """An output of all nodes of a template, sorted."""
        found = []
        for node in self.nodes:
            if node["templateName"] == name and node["type"] in ("Pod", "Retry"):
                for parameter in node.get("outputs", {}).get("parameters", []):
                    if parameter["name"] == output:
                        found.append(parameter["value"])
        return sorted(found)

    def logs(self, name):
        """What the programs of a display name printed."""
        text = ""
        for node in self.nodes:
            if node["displayName"] == name and node["type"] in ("Pod", "Retry"):
                path = f"/apis/v1alpha1/runs/{self.run.id}/nodes/{node['id']}/log"
                status, body, _ = self.server.call("GET", path, raw=True)
                equal(status, 200, body)
                text += body.decode()
        return text

    def ok(self):
        why = [(node["displayName"], node["phase"], node.get("message")) for node in self.nodes]
        equal(self.status, "Succeeded", f"{self.run.error} {why}")
        return self


@suite.test
def the_two_step_journey_of_the_command_line(world):
    package = write(flows.two_steps, "my_pipeline.yaml")
    said = world.cli("run", "submit", "-e", "my-experiment", "-r", "my-run", "-f", package)
    assert "my-run" in said, said
    run = next(run for run in world.client.list_runs(page_size=100).runs if run.name == "my-run")
    ended = world.ended(run.id).ok()
    equal(ended.logs("first"), "hello from first\n")
    equal(ended.logs("second"), "hello from second\n")
    first, second = [next(n for n in ended.nodes if n["displayName"] == name) for name in ("first", "second")]
    assert second["id"] in first["children"], first
    equal((first["type"], first["phase"], first["templateName"]), ("Pod", "Succeeded", "first"))
    shown = world.cli("run", "get", run.id)
    assert "Succeeded" in shown and "my-run" in shown, shown
    assert run.id[:8] in world.cli("run", "list"), "the list of runs"


@suite.test
def the_command_line_waits_and_says_how_it_ended(world):
    package = write(flows.parameters, "parameters.yaml")
    said = world.cli(
        "run", "submit", "-e", "waited-for", "-r", "waited", "-f", package, "-t", "60", "a=40", "b=2", "name=x y"
    )
    assert "Succeeded" in said, said


@suite.test
def the_command_line_says_what_it_needs_to_watch(world):
    package = write(flows.shared_memory, "watched.yaml")
    command = ["run", "submit", "-e", "watched", "-r", "watched", "-f", package, "-w"]
    tools = str(pathlib.Path(sys.executable).parent)
    said = world.cli(*command, expect=1, path=tools)
    run = next(run for run in world.client.list_runs(page_size=100).runs if run.name == "watched")
    assert run.id in said, said
    world.ended(run.id).ok()


@suite.test
def parameters_are_passed(world):
    ended = world.run(flows.parameters, {"a": 40, "b": 2}).ok()
    equal(ended.logs("show"), "show 52\n")
    equal(ended.logs("show-2"), "show hi x y and 52\n")
    equal(ended.outputs("add", "add-Output"), ["42"])
    given = {parameter.name: parameter.value for parameter in ended.run.pipeline_spec.parameters}
    equal((given["a"], given["b"]), ("40", "2"))


@suite.test
def artifacts_are_passed(world):
    ended = world.run(flows.artifacts).ok()
    equal(ended.outputs("count", "count-Output"), ["7"])
    equal(ended.logs("show-2"), "show 2\n")
    equal(ended.logs("show-3"), "show " + "line\n" * 6 + "line\n")


@suite.test
def files_of_containers_are_passed(world):
    ended = world.run(flows.files).ok()
    equal(ended.outputs("gen", "gen-out"), ["42"])
    equal(ended.logs("use"), "got 42\n")
    assert not pathlib.Path("/tmp/flumina-conformance-output.txt").exists(), "the path is the task's own"


@suite.test
def conditions_decide(world):
    ended = world.run(flows.conditions, {"n": 5}).ok()
    equal(ended.logs("show"), "show was heads\n")
    equal(ended.logs("show-2"), "show n big\n")
    equal(ended.logs("show-3") + ended.logs("show-4"), "")
    skipped = [node for node in ended.nodes if node["phase"] == "Skipped"]
    equal(sorted({node["displayName"] for node in skipped}), ["condition-3", "condition-4"])
    assert all(node["type"] == "Skipped" and "condition is false" in node["message"] for node in skipped), skipped


@suite.test
def static_loops_have_items(world):
    ended = world.run(flows.loops, {"items": [1, 2, 3]}, 180).ok()
    equal(sorted(ended.logs("show").split("\n")), ["", "show 3", "show 30"])
    shown = ended.logs("show-2").replace("show ", "").split()
    equal(sorted(map(int, shown)), [2, 3, 4, 11, 12, 13])


@suite.test
def outputs_are_looped_over(world):
    ended = world.run(flows.dynamic_loops).ok()
    equal(sorted(ended.logs("show").split()), ["show", "show", "show", "x", "y", "z"])
    equal(sorted(ended.logs("show-2").split()), ["p", "q", "show", "show"])


@suite.test
def the_exit_handler_runs_after_a_failure(world):
    ended = world.run(flows.exit_handler, {"n": "bar"})
    equal(ended.status, "Failed")
    equal(ended.logs("exit-op"), "Failed bar\n")
    equal(ended.phases("failing"), ["Failed"])


@suite.test
def the_exit_handler_runs_after_a_success(world):
    ended = world.run(flows.exit_after_success).ok()
    equal(ended.logs("exit-op"), "Succeeded\n")


@suite.test
def recursion_ends_by_its_condition(world):
    ended = world.run(flows.recursion, {"n": 4}).ok()
    equal(sorted(ended.outputs("dec", "dec-Output")), ["0", "1", "2", "3"])
    equal(ended.logs("show"), "show end\n")


@suite.test
def metrics_are_in_the_run(world):
    ended = world.run(flows.metrics).ok()
    found = {metric.name: (metric.number_value, metric.format) for metric in ended.run.metrics}
    equal(found, {"accuracy-score": (0.91, "PERCENTAGE"), "loss": (2, "RAW")})
    node = next(node for node in ended.nodes if node["displayName"] == "evaluate")
    names = sorted(artifact["name"] for artifact in node["outputs"]["artifacts"])
    equal(names, ["mlpipeline-metrics", "mlpipeline-ui-metadata"])
    read = world.client.runs.read_artifact(ended.run.id, node["id"], "mlpipeline-metrics")
    assert read.data, read
    listed = next(run for run in world.client.list_runs(page_size=100).runs if run.id == ended.run.id)
    equal({metric.name for metric in listed.metrics}, {"accuracy-score", "loss"})
    # What the cache gives has its metrics too.
    again = world.run(flows.metrics).ok()
    equal({metric.name: metric.number_value for metric in again.run.metrics}, {"accuracy-score": 0.91, "loss": 2})


@suite.test
def metrics_are_reported_once(world):
    ended = world.run(flows.two_steps).ok()
    metric = kfp_server_api.ApiRunMetric(name="auc", node_id="n", number_value=0.5, format="RAW")
    body = {"metrics": [metric, metric]}
    answer = world.client.runs.report_run_metrics(ended.run.id, body)
    equal([result.status for result in answer.results], ["OK", "DUPLICATE_REPORTING"])
    run = world.client.get_run(ended.run.id).run
    equal([(metric.name, metric.number_value) for metric in run.metrics], [("auc", 0.5)])


@suite.test
def pipelines_are_uploaded_and_run_by_id(world):
    package = write(flows.parameters, "uploaded.yaml")
    pipeline = world.client.upload_pipeline(package, pipeline_name="uploaded", description="v1")
    equal((pipeline.name, pipeline.description), ("uploaded", "v1"))
    equal({p.name: p.value for p in pipeline.parameters}, {"a": "3", "b": "4", "name": "x y"})
    version = world.client.upload_pipeline_version(package, "second", pipeline_id=pipeline.id)
    equal(version.name, "second")
    equal(world.client.get_pipeline(pipeline.id).default_version.id, version.id)
    versions = world.client.list_pipeline_versions(pipeline.id).versions
    equal([found.name for found in versions], ["uploaded", "second"])
    equal(world.client.get_pipeline_id("uploaded"), pipeline.id)
    experiment = world.client.create_experiment("journeys")
    run = world.client.run_pipeline(experiment.id, "by-id", pipeline_id=pipeline.id, params={"a": 1})
    ended = world.ended(run.id).ok()
    equal(ended.logs("show"), "show 15\n")
    run = world.client.run_pipeline(experiment.id, "by-version", version_id=version.id)
    world.ended(run.id).ok()
    assert "uploaded" in world.cli("pipeline", "list"), "the list of pipelines"
    # Both contracts see the same objects.
    other = world.server.get(f"/apis/v2beta1/pipelines/{pipeline.id}")
    equal(other["name"], "uploaded")
    world.client.delete_pipeline_version(version.id)
    world.client.delete_pipeline(pipeline.id)
    refused(404, world.client.get_pipeline, pipeline.id)


@suite.test
def experiments_and_runs_are_listed_and_archived(world):
    experiment = world.client.create_experiment("archive-me", description="for a test")
    equal(world.client.get_experiment(experiment_name="archive-me").id, experiment.id)
    run = world.client.run_pipeline(experiment.id, "old", write(flows.two_steps, "old.yaml"))
    world.ended(run.id).ok()
    equal([found.id for found in world.client.list_runs(experiment_id=experiment.id).runs], [run.id])
    world.client.runs.archive_run(run.id)
    equal(world.client.get_run(run.id).run.storage_state, "STORAGESTATE_ARCHIVED")
    world.client.runs.unarchive_run(run.id)
    world.client.archive_experiment(experiment.id)
    equal(world.client.get_experiment(experiment.id).storage_state, "STORAGESTATE_ARCHIVED")
    refused(400, world.client.run_pipeline, experiment.id, "late", write(flows.two_steps, "late.yaml"))
    world.client.experiments.unarchive_experiment(experiment.id)
    world.client.runs.delete_run(run.id)
    refused(404, world.client.get_run, run.id)
    world.client.delete_experiment(experiment.id)


@suite.test
def a_run_is_terminated(world):
    experiment = world.client.create_experiment("journeys")
    run = world.client.run_pipeline(experiment.id, "endless", write(flows.sleeper, "sleeper.yaml"))
    deadline = time.monotonic() + 30
    while world.client.get_run(run.id).run.status != "Running" and time.monotonic() < deadline:
        time.sleep(0.1)
    world.client.runs.terminate_run(run.id)
    equal(world.ended(run.id, 30).status, "Failed")


@suite.test
def failures_are_retried(world):
    folder = tempfile.mkdtemp(dir=_home)
    ended = world.run(flows.retries, {"folder": folder}).ok()
    counts = {path.name: len(path.read_text()) for path in pathlib.Path(folder).iterdir()}
    equal(counts, {"third": 3, "paused": 2, "always": 2})
    equal({node["displayName"]: node["type"] for node in ended.nodes if node["displayName"] in counts}, dict.fromkeys(counts, "Retry"))


@suite.test
def retries_come_to_an_end(world):
    folder = tempfile.mkdtemp(dir=_home)
    ended = world.run(flows.retries_end, {"folder": folder})
    equal(ended.status, "Failed")
    equal(len((pathlib.Path(folder) / "never").read_text()), 3)


@suite.test
def a_failed_run_is_retried(world):
    folder = pathlib.Path(tempfile.mkdtemp(dir=_home))
    ended = world.run(flows.repaired, {"folder": str(folder)})
    equal((ended.status, ended.phases("first"), ended.phases("second")), ("Failed", ["Succeeded"], ["Failed"]))
    world.client.runs.retry_run(ended.run.id)
    ended = world.ended(ended.run.id).ok()
    equal({path.name: len(path.read_text()) for path in folder.iterdir()}, {"first": 1, "second": 2})
    refused(400, world.client.runs.retry_run, ended.run.id)
    refused(404, world.client.runs.retry_run, "00000000-0000-0000-0000-000000000000")


@suite.test
def time_is_limited(world):
    ended = world.run(flows.task_timeout)
    equal((ended.status, ended.phases("slow")), ("Failed", ["Failed"]))
    node = next(node for node in ended.nodes if node["displayName"] == "slow")
    assert "1 s" in node["message"], node
    ended = world.run(flows.pipeline_timeout)
    equal(ended.status, "Failed")
    assert "2 s" in ended.run.error, ended.run.error


@suite.test
def programs_know_the_names_of_their_run(world):
    ended = world.run(flows.names).ok()
    metadata = ended.workflow["metadata"]
    keys = ("name", "uid", "namespace", "creationTimestamp")
    name, uid, namespace, created = (metadata[key] for key in keys)
    equal(ended.logs("said"), f"{name} {uid} {namespace} given {created}\n" * 2)
    equal(uid, ended.run.id)
    # The same program in another run has another name.
    again = world.run(flows.names).ok()
    assert again.run.id in again.logs("said"), again.logs("said")


@suite.test
def constant_artifacts_are_told_apart_by_the_cache(world):
    for _ in range(2):
        ended = world.run(flows.constants).ok()
    first = next(run for run in world.client.list_runs(page_size=100).runs if run.name.startswith("constants"))
    equal(first.status, "Succeeded")
    logs = [world.ended(run.id) for run in world.client.list_runs(page_size=100).runs if run.name.startswith("constants")]
    equal({run.logs("one") for run in logs} - {""}, {"one"})
    equal({run.logs("two") for run in logs} - {""}, {"two"})


@suite.test
def items_hold_parameters(world):
    ended = world.run(flows.items_of_parameters).ok()
    equal(sorted(ended.logs("show").splitlines()), ['show q"q', "show x"])
    equal(sorted(ended.logs("show-2").splitlines()), ["show 1", "show x-2"])


@suite.test
def parallelism_is_limited(world):
    world.run(flows.one_at_a_time, {"folder": tempfile.mkdtemp(dir=_home)}).ok()
    world.run(flows.one_item_at_a_time, {"folder": tempfile.mkdtemp(dir=_home)}).ok()


@suite.test
def jobs_are_made_and_list_their_runs(world):
    experiment = world.client.create_experiment("jobs")
    package = write(flows.two_steps, "job.yaml")
    job = world.client.create_recurring_run(
        experiment.id, "every-second", description="a job", interval_second=1, pipeline_package_path=package, max_concurrency=2
    )
    equal((job.name, job.enabled, job.max_concurrency), ("every-second", True, "2"))
    equal(job.trigger.periodic_schedule.interval_second, "1")
    assert [found.id for found in world.client.list_recurring_runs(experiment_id=experiment.id).jobs] == [job.id]

    def runs():
        scope = {"resource_reference_key_type": "JOB", "resource_reference_key_id": job.id}
        return world.client.runs.list_runs(page_size=100, **scope).runs or []

    deadline = time.monotonic() + 60
    while not runs():
        assert time.monotonic() < deadline, "the job has made no run"
        time.sleep(0.1)
    world.client.disable_job(job.id)
    assert not world.client.get_recurring_run(job.id).enabled
    made = runs()
    equal({reference.key.id for run in made for reference in run.resource_references if reference.key.type == "JOB"}, {job.id})
    world.ended(made[-1].id).ok()
    others = {run.id for run in world.client.list_runs(page_size=100, experiment_id=experiment.id).runs}
    assert {run.id for run in made} <= others, (made, others)
    world.client.jobs.enable_job(job.id)
    equal(world.client.get_recurring_run(job.id).enabled, True)
    world.client.delete_job(job.id)
    refused(404, world.client.get_recurring_run, job.id)
    refused(404, lambda: world.client.runs.list_runs(resource_reference_key_type="JOB", resource_reference_key_id="x"))


@suite.test
def jobs_have_crons_and_the_command_line_sees_them(world):
    package = write(flows.parameters, "cron.yaml")
    pipeline = world.client.upload_pipeline(package, pipeline_name="of-a-job")
    experiment = world.client.create_experiment("crons")
    version = pipeline.default_version.id
    job = world.client.create_recurring_run(
        experiment.id, "yearly", cron_expression="0 0 0 1 1 *", version_id=version, params={"a": 7}, enabled=False
    )
    equal((bool(job.enabled), job.trigger.cron_schedule.cron), (False, "0 0 0 1 1 *"))
    found = world.client.get_recurring_run(job.id)
    equal({p.name: p.value for p in found.pipeline_spec.parameters}["a"], "7")
    assert "yearly" in world.cli("recurring-run", "list", "-e", experiment.id), "the list of jobs"
    world.cli("recurring-run", "create", "--experiment-name", "crons", "--job-name", "by-hand", "--cron-expression", "0 0 0 1 1 *", "--version-id", version)
    names = {job.name for job in world.client.list_recurring_runs(experiment_id=experiment.id).jobs}
    equal(names, {"yearly", "by-hand"})
    world.cli("recurring-run", "delete", job.id)
    refused(404, world.client.get_recurring_run, job.id)


@suite.test
def what_is_not_supported_is_named(world):
    for change, words in [
        ({"resource": {"action": "create", "manifest": "{}"}}, ["`resource`", "cluster"]),
        ({"suspend": {}}, ["`suspend`"]),
        ({"container": {"image": "x", "command": ["true"]}, "sidecars": [{"name": "s"}]}, ["`sidecars`"]),
    ]:
        manifest = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": "x-"},
            "spec": {"entrypoint": "x", "templates": [{"name": "x", **change}]},
        }
        body = {"name": "refused", "pipeline_spec": {"workflow_manifest": json.dumps(manifest)}}
        status, answer, _ = world.server.call("POST", f"{KFP1}/runs", body)
        equal(status, 400, answer)
        equal(answer["details"][0]["@type"], "type.googleapis.com/api.Error")
        for word in words:
            assert word in json.dumps(answer), answer


@suite.test
def volumes_are_made_shared_and_removed(world):
    ended = world.run(flows.volumes).ok()
    name = ended.outputs("make", "make-name")[0]
    equal(name, f"{ended.workflow['metadata']['name']}-shared")
    equal(json.loads(ended.outputs("make", "make-manifest")[0])["kind"], "PersistentVolumeClaim")
    equal(ended.logs("say"), f"{name} 1Gi l\nr\n")
    again = world.run(flows.volumes, {"size": "2Gi"}).ok()
    equal(again.outputs("make", "make-size"), ["2Gi"])


@suite.test
def snapshots_are_refused_by_name(world):
    try:
        world.run(flows.snapshot)
    except kfp_server_api.ApiException as error:
        equal(error.status, 400)
        assert "VolumeSnapshot" in error.body and "dataSource" in error.body, error.body
        return
    raise AssertionError("a snapshot was not refused")


@suite.test
def what_a_skipped_task_would_have_put_out_stays_unfilled(world):
    ended = world.run(flows.skipped_outputs).ok()
    assert "{{tasks.condition-1.outputs.parameters.flip-Output}}" in ended.logs("show"), ended.logs("show")


@suite.test
def conditions_see_items_as_text(world):
    ended = world.run(flows.items_in_conditions).ok()
    equal((ended.logs("show"), ended.logs("show-2")), ("show found q\n", "show found 2\n"))


@suite.test
def settings_of_a_pod_reach_the_program(world):
    ended = world.run(flows.settings).ok()
    equal(ended.logs("told"), f"{ended.run.id} blue\n")


@suite.test
def all_of_a_secret_and_a_config_map_are_variables(world):
    for kind, name, data in (("secrets", "account", {"token": "t", "B": "hidden"}), ("configmaps", "settings", {"b": "c"})):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        status, answer, _ = world.server.call("PUT", f"{STORE}/{kind}/{name}", {"data": encoded})
        equal(status, 200, answer)
    equal(world.run(flows.bundles).ok().logs("told"), "t own c \n")
    ended = world.run(flows.bundles_missing)
    equal(ended.status, "Failed")
    assert "secret `absent` does not exist" in ended.run.error, ended.run.error


@suite.test
def the_end_is_told_what_failed(world):
    ended = world.run(flows.told_failures)
    equal(ended.status, "Failed")
    failures = json.loads(ended.logs("at-end"))
    found = [(failure["templateName"], failure["phase"]) for failure in failures if failure["displayName"] == "breaks"]
    equal(found, [("breaks", "Failed")], failures)
    equal(json.loads(world.run(flows.told_failures, {"fails": "no"}).ok().logs("at-end")), [])


@suite.test
def programs_know_all_parameters_and_parts_of_the_time(world):
    ended = world.run(flows.whole_run, {"b": 5}).ok()
    listed, time_parts = ended.logs("told").strip().split("\n")
    equal(json.loads(listed), [{"name": "a", "value": 'q"q'}, {"name": "b", "value": "5"}])
    created = datetime.datetime.strptime(ended.workflow["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    created = created.replace(tzinfo=datetime.timezone.utc)
    equal(time_parts, created.strftime("%Y %m %d %H %M %S ") + str(int(created.timestamp())))


@suite.test
def settings_of_the_pipeline_are_taken_together(world):
    ended = world.run(flows.configured, {"folder": tempfile.mkdtemp(dir=_home)}).ok()
    equal(sum(node["type"] == "Pod" for node in ended.nodes), 3)


@suite.test
def shared_memory_is_there(world):
    equal(world.run(flows.shared_memory).ok().logs("told"), "shared\n")


@suite.test
def a_side_car_is_refused_by_name(world):
    try:
        world.run(flows.beside)
    except kfp_server_api.ApiException as error:
        equal(error.status, 400)
        assert "`sidecars` of Argo workflows is not supported" in error.body, error.body
        return
    raise AssertionError("a side car was not refused")


@suite.test
def recursion_without_end_is_refused(world):
    step = {"name": "again", "template": "x"}
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "x-"},
        "spec": {"entrypoint": "x", "templates": [{"name": "x", "dag": {"tasks": [step]}}]},
    }
    body = {"name": "refused", "pipeline_spec": {"workflow_manifest": json.dumps(manifest)}}
    status, answer, _ = world.server.call("POST", f"{KFP1}/runs", body)
    equal(status, 400, answer)
    assert "never end" in json.dumps(answer), answer
    step["when"] = "a == a"
    body["pipeline_spec"]["workflow_manifest"] = json.dumps(manifest)
    status, answer, _ = world.server.call("POST", f"{KFP1}/runs", body)
    equal(status, 200, answer)
    ended = world.ended(answer["run"]["id"], 120)
    equal(ended.status, "Failed")
    assert "deep" in json.dumps(ended.workflow["status"]), ended.run.error


def write(pipeline, name):
    path = str(pathlib.Path(_home) / name)
    with COMPILER:
        kfp.compiler.Compiler().compile(pipeline, path)
    return path


def refused(status, call, *arguments):
    try:
        call(*arguments)
    except kfp_server_api.ApiException as error:
        equal(error.status, status, error.body)
        return
    raise AssertionError(f"{call.__name__} was not refused")


if __name__ == "__main__":
    assert kfp.__version__ == "1.8.22", kfp.__version__
    with suite.guard("the server"), Server() as server:
        world = World(server)
        if len(sys.argv) > 1:
            suite.tests = [test for test in suite.tests if test[0] in sys.argv[1:]]
        suite.run(world, workers=int(os.environ.get("SUITE_WORKERS", "4")))
    suite.close()
