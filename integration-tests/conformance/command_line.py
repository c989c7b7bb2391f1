# python: kfp-2.17
"""`flumina run` and `flumina schedule` as people type them: tags, filters, comparison, the timeline, schedules."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import warnings

from _harness import Server, Suite, equal, flumina
from kfp import compiler, dsl

warnings.simplefilter("ignore")
suite = Suite()
HOME = pathlib.Path(tempfile.mkdtemp(prefix="flumina-home-"))


@dsl.component(install_kfp_package=False)
def score(rate: float, metrics: dsl.Output[dsl.Metrics]) -> float:
    metrics.log_metric("accuracy", 1 - rate)
    return rate


@dsl.component(install_kfp_package=False)
def report(value: float) -> str:
    return f"rate {value}"


@dsl.component(install_kfp_package=False)
def report_more(value: float) -> str:
    return f"the rate is {value}"


def write(name, reporter):
    @dsl.pipeline(name=name)
    def judged(rate: float = 0.5):
        value = score(rate=rate).outputs["Output"]
        reporter(value=value).set_display_name("report")

    path = HOME / f"{name}.yaml"
    compiler.Compiler().compile(judged, str(path))
    return str(path)


FILE = write("judged", report)
OTHER = write("judged-otherwise", report_more)


class World:
    def __init__(self, server):
        self.server = server

    def cli(self, *words, code=0):
        """What the command prints; on its error output when it is to fail."""
        environment = dict(os.environ, HOME=str(HOME), FLUMINA_SERVER=self.server.url)
        command = [flumina(), *words, "--server", self.server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        equal(done.returncode, code, f"{words}: {done.stdout} {done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def json(self, *words):
        return json.loads(self.cli(*words, "-o", "json"))

    def submit(self, file, rate, *more):
        words = ["run", "submit", file, "-p", f"rate={rate}", "--name", f"rate {rate}", *more]
        run = self.json(*words)["run_id"]
        equal(self.server.wait(run)["state"], "SUCCEEDED")
        return run

    def until(self, what, probe, seconds=30):
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
            time.sleep(0.05)
        return found


@suite.test
def runs_are_found_by_tags_parameters_and_metrics(world):
    good = world.submit(FILE, 0.1, "--tag", "team=blue", "--tag", "kind=good")
    bad = world.submit(FILE, 0.8, "--tag", "team=blue")

    def found(filter):
        listed = world.cli("run", "list", "--filter", filter)
        return {run for run in (good, bad) if run in listed}

    equal(found("tag.team = blue"), {good, bad})
    equal(found("tag.team = blue AND metric.accuracy > 0.5"), {good})
    equal(found("tag.team = blue AND param.rate = 0.8"), {bad})
    equal(found("tag.team = blue AND state = FAILED"), set())
    listed = world.cli("run", "list", "--filter", "tag.kind = good")
    assert "accuracy=0.9" in listed and "kind=good team=blue" in listed, listed
    world.cli("run", "tag", bad, "kind=bad")
    equal(found("tag.kind = bad"), {bad})
    world.cli("run", "tag", bad, "--remove", "kind")
    equal(found("tag.kind = bad"), set())
    said = world.cli("run", "list", "--filter", "colour = red", code=1)
    assert "filter" in said and "colour" in said, said
    said = world.cli("run", "tag", bad, "nothing", code=2)
    assert "nothing: expected KEY=VALUE" in said, said


@suite.test
def only_what_differs_is_compared(world):
    first, second = world.submit(FILE, 0.2), world.submit(OTHER, 0.3)
    said = world.cli("run", "compare", first, second)
    lines = [line.split() for line in said.splitlines()]
    assert ["parameter", "rate", "0.2", "0.3"] in lines, said
    metric = next(line for line in lines if line[:1] == ["metric"])
    equal(metric[-2:], ["0.8", "0.7"], said)
    assert '-     return f"rate {value}"' in said and '+     return f"the rate is {value}"' in said, said
    same = world.cli("run", "compare", first, first)
    assert "parameter" not in same and "metric" not in same, same
    said = world.cli("run", "compare", first, "00000000-0000-7000-8000-000000000000", code=4)
    assert "00000000-0000-7000-8000-000000000000" in said, said


@suite.test
def the_timeline_of_a_run_is_drawn(world):
    run = world.submit(FILE, 0.4)
    said = world.cli("run", "get", run, "--timeline")
    assert "█ running" in said, said
    rows = [line for line in said.splitlines() if line.startswith(("score", "report"))]
    equal(len(rows), 2, said)
    assert all("█" in row or "cached" in row for row in rows), said


@suite.test
def a_schedule_is_made_shown_changed_and_deleted(world):
    when = ["--cron", "0 0 3 * * *", "--time-zone", "Europe/Berlin"]
    made = world.json("schedule", "create", FILE, *when, "-p", "rate=0.25")
    identity = made["schedule_id"]
    shown = world.cli("schedule", "get", identity)
    assert "0 0 3 * * *" in shown and "Europe/Berlin" in shown, shown
    assert identity in world.cli("schedule", "list"), "the list of schedules"
    world.cli("schedule", "edit", identity, "--every", "3600", "--name", "hourly")
    changed = world.json("schedule", "get", identity)
    equal(changed["display_name"], "hourly")
    assert "3600" in json.dumps(changed["trigger"]), changed
    world.cli("schedule", "disable", identity)
    equal(world.json("schedule", "get", identity).get("enabled", False), False)
    world.cli("schedule", "enable", identity)
    equal(world.json("schedule", "get", identity).get("enabled", False), True)
    world.cli("schedule", "delete", identity)
    said = world.cli("schedule", "get", identity, code=4)
    assert identity in said, said


@suite.test
def what_a_schedule_cannot_be_is_said(world):
    said = world.cli("schedule", "create", FILE, "--cron", "0 0 0 31 2 *", code=1)
    assert "cron" in said, said
    said = world.cli("schedule", "create", FILE, "--cron", "* * * * * *", "--time-zone", "Mars/Olympus", code=1)
    assert "Mars/Olympus" in said, said
    said = world.cli("schedule", "create", str(HOME / "none.yaml"), "--every", "60", code=4)
    assert "none.yaml" in said, said


@suite.test
def a_grid_of_parameters_is_run_once(world):
    made = world.json("schedule", "create", FILE, "--every", "86400", "--disabled", "--name", "grid")
    identity = made["schedule_id"]
    world.cli("schedule", "backfill", identity, "--grid", "rate=[0.1, 0.2, 0.3]")

    def runs():
        listed = world.json("run", "list", "--filter", f"schedule_id = {identity}")
        return listed.get("runs", [])

    world.until("three runs", lambda: len(runs()) == 3 and all(run["state"] == "SUCCEEDED" for run in runs()))
    equal(sorted(run["metrics"]["accuracy"] for run in runs()), [0.7, 0.8, 0.9])
    world.cli("schedule", "backfill", identity, "--grid", "rate=[0.1, 0.2, 0.3]")
    equal(len(runs()), 3, "nothing is run twice")


with Server() as _server:
    suite.run(World(_server), workers=3)
suite.close()
