# python: kfp-2.17
"""Recurring runs through the unmodified kfp SDK 2.17.0: their life, slots that really come, catch-up, concurrency."""

import datetime
import json
import os
import sys
import tempfile
import time
import warnings

from _harness import Server, Suite, equal

warnings.simplefilter("ignore")
os.environ["KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT"] = "true"
_home = os.environ.get("HOME", "/")
os.environ["HOME"] = tempfile.mkdtemp(prefix="flumina-home-")
import kfp  # noqa: E402
import kfp_server_api  # noqa: E402
from kfp import compiler, dsl  # noqa: E402

os.environ["HOME"] = _home
suite = Suite()


@dsl.component
def say(text: str, scheduled: str, seconds: float) -> str:
    import time

    time.sleep(seconds)
    return f"{text} {scheduled}"


@dsl.pipeline(name="tick")
def tick(text: str = "none", seconds: float = 0.0):
    say(text=text, scheduled=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, seconds=seconds)


FILE = os.path.join(tempfile.mkdtemp(prefix="flumina-pipeline-"), "tick.yaml")
compiler.Compiler().compile(tick, FILE)


def create(client, name, **more):
    more.setdefault("pipeline_package_path", FILE)
    return client.create_recurring_run(client.suite_experiment, name, **more)


def runs_of(client, recurring_run_id):
    predicate = {"operation": 1, "key": "recurring_run_id", "stringValue": recurring_run_id}
    found = client.list_runs(page_size=200, sort_by="scheduled_at", filter=json.dumps({"predicates": [predicate]}))
    return found.runs or []


def wait(probe, what, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.2)


def refused(status, *words, **more):
    try:
        create(more.pop("client"), "refused", **more)
    except kfp_server_api.ApiException as error:
        equal(error.status, status, error.body)
        for word in words:
            assert word in error.body, f"{word!r} is not in {error.body}"
        return
    raise AssertionError("it was not refused")


@suite.test
def a_recurring_run_lives(client, server):
    made = create(client, "nightly", cron_expression="0 0 3 * * *", description="about it", max_concurrency=50)
    equal((made.status, made.max_concurrency, made.no_catchup), ("ENABLED", "10", None))
    equal(made.trigger.cron_schedule.cron, "0 0 3 * * *")
    seen = client.get_recurring_run(made.recurring_run_id)
    equal((seen.display_name, seen.description), ("nightly", "about it"))
    assert seen.pipeline_spec["pipelineInfo"]["name"] == "tick", seen.pipeline_spec
    listed = client.list_recurring_runs(experiment_id=made.experiment_id, sort_by="created_at desc")
    assert made.recurring_run_id in [one.recurring_run_id for one in listed.recurring_runs]
    client.disable_recurring_run(made.recurring_run_id)
    equal(client.get_recurring_run(made.recurring_run_id).status, "DISABLED")
    client.enable_recurring_run(made.recurring_run_id)
    equal(client.get_recurring_run(made.recurring_run_id).status, "ENABLED")
    client.delete_recurring_run(made.recurring_run_id)
    try:
        client.get_recurring_run(made.recurring_run_id)
    except kfp_server_api.ApiException as error:
        equal(error.status, 404)
    else:
        raise AssertionError("a deleted recurring run is still there")


@suite.test
def a_schedule_of_every_second_runs_every_second(client, server):
    parameters = {"text": "[[Index]] [[ScheduledTime.2006]]"}
    made = create(client, "fast", cron_expression="* * * * * *", max_concurrency=10, params=parameters)
    wait(lambda: len(runs_of(client, made.recurring_run_id)) >= 5, "five runs")
    client.disable_recurring_run(made.recurring_run_id)
    runs = runs_of(client, made.recurring_run_id)
    slots = [run.scheduled_at for run in runs]
    gaps = {(later - earlier).total_seconds() for earlier, later in zip(slots, slots[1:])}
    equal(gaps, {1.0})
    first = server.wait(runs[0].run_id)
    equal((first["state"], first["display_name"]), ("SUCCEEDED", "fast-1"))
    said = server.tasks(runs[0].run_id)["say"]["output_parameters"]["Output"]
    year = slots[0].strftime("%Y")
    equal(said, f"1 {year} " + slots[0].strftime("%Y-%m-%dT%H:%M:%SZ"))
    for run in runs:
        server.wait(run.run_id)
    equal(len(runs_of(client, made.recurring_run_id)), len(runs))


@suite.test
def what_was_missed_is_caught_up_or_not(client, server):
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    past = {"start_time": now - datetime.timedelta(hours=4, minutes=30), "interval_second": 3600}
    all_of_them = create(client, "catch up", max_concurrency=10, **past)
    newest = create(client, "newest", max_concurrency=10, no_catchup=True, **past)
    runs = wait(lambda: len(found := runs_of(client, all_of_them.recurring_run_id)) == 4 and found, "four runs")
    late = [(run.scheduled_at - past["start_time"]).total_seconds() / 3600 for run in runs]
    equal(late, [1.0, 2.0, 3.0, 4.0])
    runs = wait(lambda: runs_of(client, newest.recurring_run_id), "the newest run")
    equal([(run.scheduled_at - past["start_time"]).total_seconds() / 3600 for run in runs], [4.0])


@suite.test
def runs_beside_each_other_are_limited(client, server):
    made = create(client, "slow", interval_second=1, max_concurrency=2, params={"seconds": 2.0})
    most, states = 0, []

    def four():
        states[:] = [run.state for run in runs_of(client, made.recurring_run_id)]
        nonlocal most
        most = max(most, sum(state in ("PENDING", "RUNNING") for state in states))
        return len(states) >= 4

    wait(four, "four runs")
    client.disable_recurring_run(made.recurring_run_id)
    equal(most, 2)


@suite.test
def what_cannot_be_is_refused_by_name(client, server):
    refused(400, "never fires", client=client, cron_expression="0 0 0 30 2 *")
    refused(400, "fields", client=client, cron_expression="* * *")
    refused(400, "not a time zone", client=client, cron_expression="TZ=Mars/Base @daily")
    refused(400, "interval_second", client=client, interval_second=-5)
    refused(400, "unknown", client=client, interval_second=60, params={"unknown": 1})


@suite.test
def the_newest_version_of_a_pipeline_is_taken(client, server):
    pipeline = client.upload_pipeline(FILE, pipeline_name="scheduled")
    version = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions[0]
    made = create(
        client,
        "of a version",
        pipeline_package_path=None,
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
        interval_second=1,
    )
    runs = wait(lambda: runs_of(client, made.recurring_run_id), "a run")
    client.disable_recurring_run(made.recurring_run_id)
    equal(runs[0].pipeline_version_reference.pipeline_version_id, version.pipeline_version_id)
    equal(server.wait(runs[0].run_id)["state"], "SUCCEEDED")


with suite.guard("the server"), Server() as server:
    sys.stdout = open(os.devnull, "w")
    client = kfp.Client(host=server.url)
    client.suite_experiment = client.create_experiment("recurring").experiment_id
    suite.run(client, server, workers=3)
suite.close()
