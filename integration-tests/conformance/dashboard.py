# python: kfp-2.17
"""The run page in a real Chromium (../browser/dashboard.mjs), its own tests, and whether the committed build is current."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from _dashboard_pipelines import TICKS, compiled, failing, guarded, healing, large, looping, measured, patient, printer
from _harness import ROOT, Server, Suite, environment, equal

suite = Suite()
TOKEN = "correct-horse-battery-staple"
PAGE = ROOT / "services/dashboard"
NAMES = ["attack", "failing", "guarded", "healing", "large", "looping", "measured", "mended", "patient", "printer"]
REPORT = "<h1>Report</h1><p>Accuracy <b id=v></b></p><script>document.getElementById('v').textContent = 0.934</script>"


def start(server, name, spec, **parameters):
    body = {"display_name": name, "pipeline_spec": spec, "runtime_config": {"parameters": parameters}}
    status, run, _ = server.call("POST", "/apis/v2beta1/runs", body)
    equal(status, 200, run)
    return run["run_id"]


def tag(server, run_id, **tags):
    status, body, _ = server.call("POST", f"/apis/flumina.pipelines/v1/runs/{run_id}:tag", {"set": tags})
    equal(status, 200, body)


def logs():
    return pathlib.Path(environment()["cache"]) / "logs/dashboard"


def begin(server):
    """Starts the runs that are looked at."""
    spec = compiled(failing)
    # One line of one component is another.
    mended = json.loads(json.dumps(spec).replace("too high: the loss is nan", "far too high: the loss is nan"))
    return {
        "large": start(server, "large", large(1000)),
        "failed": start(server, "failing", spec),
        "mended": start(server, "mended", mended, rate=0.5),
        "attack": start(server, "attack", compiled(measured)),
        "metrics": start(server, "measured", compiled(measured), attack=REPORT),
        "looping": start(server, "looping", compiled(looping)),
        "healing": start(server, "healing", compiled(healing), mark=str(server.folder / "healing")),
        "patient": start(server, "patient", compiled(patient), mark=str(server.folder / "patient")),
        "guarded": start(server, "guarded", compiled(guarded)),
    }


def prepare(server, locked, runs):
    """Waits until they are as far as they are to be, and says what the browser is told."""
    tag(server, runs["attack"], team="red")
    equal(server.wait(runs["failed"])["state"], "FAILED")
    equal(server.wait(runs["attack"])["state"], "SUCCEEDED")
    equal(server.wait(runs["metrics"])["state"], "SUCCEEDED")
    equal(server.wait(runs["looping"])["state"], "FAILED")
    equal(server.wait(runs["mended"])["state"], "SUCCEEDED")
    equal(server.wait(runs["healing"])["state"], "FAILED")
    equal(server.wait(runs["large"], 300)["state"], "SUCCEEDED")
    waiting(server, runs["patient"])
    env = environment()
    return {
        "target": server.url,
        "chromium": env["chromium"],
        "nodeModules": env["node_modules"],
        "logs": str(logs()),
        "runs": runs,
        "loop": next(task["task_id"] for path, task in server.tasks(runs["looping"]).items() if path == "for-loop-2"),
        "failedTask": server.tasks(runs["failed"])["train"]["task_id"],
        "patientTask": server.tasks(runs["patient"])["download"]["task_id"],
        "names": NAMES,
        "specs": {"printer": compiled(printer), "quick": large(1)},
        "locked": {"target": locked.url, "token": TOKEN},
    }


def waiting(server, run_id):
    """The task that waits for its second attempt."""
    deadline = time.monotonic() + 60
    while not any(task.get("retry_at") for task in server.tasks(run_id).values()):
        assert time.monotonic() < deadline, "no task waits for another attempt"
        time.sleep(0.1)


def drive(given):
    done = subprocess.run(
        [environment()["node"], str(ROOT / "integration-tests/browser/dashboard.mjs")],
        input=json.dumps(given), capture_output=True, text=True, timeout=420,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    (logs() / "found.json").write_text(json.dumps(found, indent=1))
    return found


def declare(server, found):
    runs = found["runs"]

    def of(check):
        assert "error" not in found[check], found[check]["error"]
        return found[check]["value"]

    @suite.test
    def the_cause_of_a_failure_is_visible_without_a_click():
        cause = of("cause")
        assert re.fullmatch(
            r"Failed in train after [\d.]+ (s|ms|m[ \d s]*): ValueError, ephemeral_component\.py:\d+\.", cause["sentence"]
        ), cause["sentence"]
        for text in ("learning rate 5 is too high", "raise ValueError", "in train"):
            assert text in cause["card"], (text, cause["card"])
        assert cause["inView"], "the cause is below the fold"
        assert cause["title"].startswith("failing: Failed in train"), cause["title"]

    @suite.test
    def the_time_of_an_attempt_that_failed_is_not_drawn_as_a_success():
        bar = of("cause")["bar"]
        assert bar["title"].startswith("running, failed: "), bar
        assert bar["striped"] and len(set(bar["colours"])) == 1, bar

    @suite.test
    def skipped_tasks_say_why():
        rows = [row for row in of("cause")["rows"] if "publish" in row]
        assert rows and "train" in rows[0], of("cause")["rows"]

    @suite.test
    def a_loop_is_folded_with_counts_and_open_where_it_failed():
        loop = of("loop")
        equal(loop["folded"]["rows"], ["condition-3", "for-loop-2"])
        assert "1\n failed" in loop["folded"]["counts"] or "1 failed" in loop["folded"]["title"], loop["folded"]
        assert loop["open"][:2] == ["for-loop-2", "for-loop-2[0]"] or "for-loop-2[7]" in loop["open"], loop["open"]
        assert "fit" in loop["open"], "the task that failed is hidden"
        equal(loop["graph"], ["fit", "score"])
        assert "limit" in loop["why"] or "false" in loop["why"], loop["why"]

    @suite.test
    def the_program_of_a_task_is_told_also_when_it_never_ran():
        base = f"/apis/flumina.pipelines/v1/runs/{runs['failed']}/tasks"
        train, publish = (server.get(f"{base}/{task}:program") for task in ("train", "publish"))
        assert "def train(" in train["source"] and train["function"] == "train", train
        equal([train["resources"]["memory_limit"], train["resources"]["cpu_request"]], ["512Mi", "500m"])
        assert "def publish(" in publish["source"], publish
        command = server.get(f"/apis/flumina.pipelines/v1/runs/{runs['large']}/tasks/step-0999:program")
        equal(command["command"], ["true"])
        loop = server.get(f"/apis/flumina.pipelines/v1/runs/{runs['looping']}/tasks/condition-3:program")
        assert "limit" in loop["condition"], loop

    @suite.test
    def the_end_of_a_log_is_read_without_its_beginning():
        path = f"/apis/flumina.pipelines/v1/runs/{found['runs']['failed']}/tasks/train/logs"
        whole = server.call("GET", path, raw=True)[1]
        equal(server.call("GET", f"{path}?tail_bytes=40", raw=True)[1], whole[-40:])
        equal(server.call("GET", f"{path}?tail_bytes={len(whole) * 2}", raw=True)[1], whole)

    @suite.test
    def links_to_what_is_not_there_say_so():
        equal(of("cause")["unknownTask"], 0)
        assert "run" in of("cause")["missing"], of("cause")["missing"]

    @suite.test
    def a_run_of_a_thousand_tasks_opens_within_a_second():
        times = of("large")["times"]
        # The median: one slow start of a browser is not the page's.
        assert statistics.median(times) < 1000, times
        assert of("large")["drawn"] < 200, "rows that nobody sees are in the document"

    @suite.test
    def a_printed_line_is_on_the_screen_within_300_ms():
        late = sorted(of("live")["late"])
        assert len(late) > 20, late
        assert statistics.median(late) < 300 and late[int(len(late) * 0.9)] < 300, late

    @suite.test
    def a_reload_in_the_middle_loses_nothing():
        live = of("live")
        equal(live["place"], {"url": True, "state": "Running"})
        equal(live["hits"], f"1 of {TICKS}")
        assert f"tick {TICKS - 1} " in live["last"], live["last"]

    @suite.test
    def an_html_artifact_reaches_nothing():
        report = of("report")
        assert len(report["learned"]) > 12, report["learned"]
        equal({name: got for name, got in report["learned"].items() if got != "nothing"}, {})
        equal(report["origin"], "null")
        equal(report["windows"], 1)
        assert "#/runs/details/" in report["stillHere"], report["stillHere"]
        assert "A report" in report["text"], report["text"]

    @suite.test
    def an_html_artifact_sent_no_request():
        equal(of("report")["asked"], [f"frame {server.url}/frame.html"])

    @suite.test
    def metrics_curves_matrices_and_markdown_are_drawn():
        report = of("report")
        equal(sorted(figure.split("\n")[:2] for figure in report["figures"]), [["accuracy", "0.934"], ["loss", "0.0731"]])
        assert "21 points" in report["roc"], report["roc"]
        equal(report["matrix"], ["48", "2", "0", "1", "45", "4", "0", "3", "47"])
        assert "The model is good." in report["markdown"], report["markdown"]

    @suite.test
    def keys_lead_from_the_list_to_a_log_and_back():
        found = of("keyboard")
        equal(found["steps"], ["failing", "Tasks", "Task train", "Logs", "Tasks"])
        equal([found["first"], found["closed"], found["opened"], found["chosen"]], ["prepare", "3", "4", "train"])

    @suite.test
    def everything_that_can_be_operated_has_a_name():
        equal({view: nameless for view, nameless in of("pictures").items() if nameless}, {})

    @suite.test
    def every_view_fits_a_phone():
        equal(of("narrow"), {})

    @suite.test
    def the_list_filters_and_its_place_survives():
        found = of("list")
        equal(sorted(found["all"]), NAMES)
        equal([found["named"], found["reloaded"]], [["failing"]] * 2)
        equal(sorted(found["failed"]), ["failing", "healing", "looping"])
        assert found["url"].endswith("#/runs?name=fail"), found["url"]
        assert "#/runs/details/" in found["inside"], found["inside"]
        assert "state=FAILED" in found["back"], found["back"]

    @suite.test
    def the_list_is_live_and_asks_for_nothing_while_it_is():
        found = of("liveList")
        equal([found["asked"], found["stillChosen"]], [[], True])
        assert found["appeared"] < 2000, found["appeared"]

    @suite.test
    def names_with_spaces_are_found():
        equal(of("liveList")["box"], 'tag."my team" = "a b"')

    @suite.test
    def conditions_are_added_by_a_form_and_by_a_click():
        found = of("conditions")
        equal(found["form"], ["measured"])
        equal(found["written"], 'param.rows >= 50 AND pipeline = failing')
        equal([sorted(found["byForm"]), found["byTag"], sorted(found["byPipeline"])], [["failing", "mended"], ["attack"], ["attack", "measured"]])
        assert "is not" in found["refused"], found["refused"]

    @suite.test
    def runs_are_compared_by_what_differs():
        found = of("compare")
        assert found["url"].split("#")[1].startswith("/compare?runlist="), found["url"]
        equal([found["one"], sorted(found["heads"])], [True, ["attack", "failing"]])
        assert "Parameters" in found["kinds"] and "Metrics" in found["kinds"] and "Code" in found["kinds"], found["kinds"]
        assert {"rate", "accuracy"} <= set(found["rows"]), found["rows"]
        equal(sorted(found["accuracy"]), ["0.934", "none"])
        changed = found["changed"]
        equal(changed["rows"], ["rate", "train"], "what differs")
        kinds = [kind for kind, _ in changed["lines"]]
        equal([kinds.count("removed"), kinds.count("added")], [1, 1], changed["lines"])
        assert kinds.count("same") <= 6 and "fold" in kinds, changed["lines"]
        equal(changed["marked"], ["far "])
        assert "not 1" in found["tooFew"], found["tooFew"]
        assert found["unknown"], "a run that is not there is compared"

    @suite.test
    def a_task_in_back_off_says_when_it_tries_again():
        found = of("backOff")
        for text in (found["drawer"], found["row"], found["sentence"]):
            assert re.search(r"[Tt]ries again in \d+ m( \d+ s)?, at \d", text), text
        assert "exit code 56" in found["drawer"], found["drawer"]

    @suite.test
    def a_run_is_stopped_retried_and_run_again_from_its_page():
        found = of("actions")
        equal(found["offered"], {
            "patient": ["Run again…", "Stop the run"], "stopped": ["Run again…", "Retry"],
            "healing": ["Run again…", "Retry"], "healed": ["Run again…"],
        })
        equal([found["declined"], found["focus"]], ["Running", "Stop the run"])
        equal([found["stopped"], found["healed"]], ["Stopped", "Succeeded"])
        equal(server.get(f"/apis/flumina.pipelines/v1/runs/{found['runs']['patient']}")["state"], "CANCELED")
        assert found["stale"], "what the server refuses is not said"

        equal(found["wrong"], "A number is wanted, such as 0.5.")
        clone = server.get(f"/apis/flumina.pipelines/v1/runs/{found['clone']}")
        equal([clone["display_name"], clone["parameters"], clone["state"]], ["gentler", {"rows": 100, "rate": 0.5}, "SUCCEEDED"])

    @suite.test
    def exit_tasks_are_stopped_when_asked_again():
        found = of("stopTwice")
        assert "Exit tasks still run" in found["first"] and "clean up" in found["second"], found
        assert "top" in found["sentence"], found["sentence"]
        equal(found["buttons"], ["Run again…", "Retry"])
        assert "stopped" in found["bar"], found["bar"]
        run_id = runs["guarded"]
        equal(server.get(f"/apis/flumina.pipelines/v1/runs/{run_id}")["state"], "CANCELED")
        equal({task["state"] for path, task in server.tasks(run_id).items() if task.get("attempts")}, {"CANCELED"})

    @suite.test
    def dark_is_dark_and_the_choice_lasts():
        found = of("colours")
        bright = {name: sum(map(int, re.findall(r"\d+", colour)[:3])) for name, colour in found.items()}
        assert bright["light"] > 700 and bright["dark"] < 120, found
        assert bright["chosen"] < 120, found

    @suite.test
    def a_picture_of_every_view_is_there_to_be_looked_at():
        names = {path.stem for path in logs().glob("*.png")}
        views = [*of("pictures"), "again", "retry", "chosen"]
        wanted = {f"{view}-{scheme}" for view in views for scheme in ("light", "dark")}
        equal((wanted | {f"{view}-narrow" for view in of("pictures")}) - names, set())

    @suite.test
    def a_token_is_asked_for_and_stays_out_of_urls_and_of_the_disk():
        found = of("locked")
        assert TOKEN not in found["url"], found["url"]
        equal([found["dialogs"], found["stored"], found["otherTab"]], [0, [0, 1], "asked"])

    @suite.test
    def no_request_goes_to_another_host():
        hosts = set(of("hosts"))
        equal(len(hosts), 2, hosts)
        assert all(host.startswith("127.0.0.1:") for host in hosts), hosts

    @suite.test
    def the_browser_has_nothing_to_complain_about():
        expected = ("401", "404")
        equal([line for line in of("complaints") if not any(code in line for code in expected)], [])


def build():
    """A copy of the page's folder with its packages, which are kept by their lock file."""
    npm = shutil.which("npm") or str(pathlib.Path(environment()["node"]).parent / "npm")
    lock = (PAGE / "package-lock.json").read_bytes() + (PAGE / "package.json").read_bytes()
    kept = pathlib.Path(environment()["cache"]) / "env" / f"page-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (kept / ".complete").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PAGE / name, kept)
        run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], kept)
        (kept / ".complete").write_text("")
    return npm, kept / "node_modules"


def run(command, folder):
    variables = dict(os.environ, FLUMINA_ROOT=str(ROOT), CI="1")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=variables)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def declare_build():
    npm, modules = build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="flumina-page-"))
    copy = folder / "page"
    shutil.copytree(PAGE, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (copy / "node_modules").symlink_to(modules)

    @suite.test
    def its_own_tests_pass():
        output = run([npm, "test", "--silent"], copy)
        assert "# fail 0" in output, output[-2000:]

    @suite.test
    def the_committed_build_is_what_its_sources_make():
        run([npm, "run", "build", "--silent"], copy)
        for path in sorted((PAGE / "dist").iterdir()):
            assert path.read_bytes() == (copy / "dist" / path.name).read_bytes(), f"{path.name} differs; npm run build"

    suite.run()
    shutil.rmtree(folder, ignore_errors=True)


def main():
    with suite.guard("the browser"), Server() as server, Server(token=TOKEN) as locked:
        runs = begin(server)
        # While they run.
        with suite.guard("the build"):
            declare_build()
        given = prepare(server, locked, runs)
        found = dict(drive(given), runs=given["runs"])
        declare(server, found)
        suite.run()
    suite.close()


if __name__ == "__main__":
    main()
