# python: tools
"""REST as raw clients see it: Kubeflow's dialect and our own, with the standard library alone."""

import json
import time
import urllib.parse

import yaml
from _client import KFP, NOBODY, OWN, SPEC, create, finish, kfp_error, own_error, predicates, said
from _harness import OPENER, Suite, equal

suite = Suite()


@suite.test
def output_has_the_names_of_the_contract(server):
    run = create(server, "spelled")
    assert {"run_id", "display_name", "created_at", "pipeline_spec", "experiment_id", "state"} <= set(run), sorted(run)
    equal(run["state"], "PENDING")
    equal(run["finished_at"], "1970-01-01T00:00:00Z")
    assert run["created_at"].endswith("Z"), run["created_at"]
    server.wait(run["run_id"])
    run = server.get(f"{KFP}/runs/{run['run_id']}")
    task = run["run_details"]["task_details"][0]
    assert isinstance(task["execution_id"], str) and task["execution_id"] == task["task_id"], task
    empty = {name: value for name, value in run.items() if value in (None, "", [])}
    equal(empty, {})
    # The specification comes back as it was given: integers stay integers.
    equal(run["pipeline_spec"], SPEC)


@suite.test
def input_may_be_in_camel_case(server):
    status, run, _ = server.call(
        "POST", f"{KFP}/runs",
        {"displayName": "camel", "pipelineSpec": SPEC, "runtimeConfig": {"parameters": {"text": "a b"}}},
    )
    equal(status, 200, run)
    equal(run["runtime_config"]["parameters"], {"text": "a b"})
    equal(server.wait(run["run_id"])["outputs"], {"Output": "2 words"})


@suite.test
def wrong_bodies_are_refused(server):
    def post(body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return server.call("POST", f"{KFP}/runs", body, {"Content-Type": kind})

    run = {"display_name": "x", "pipeline_spec": SPEC}
    kfp_error(post(dict(run, colour="red")), 400, 3)
    kfp_error(post(dict(run, runtime_config={"parameter": {}})), 400, 3)
    for named, body in (("colour", dict(run, colour="red")), ("parameter", dict(run, runtime_config={"parameter": {}}))):
        said(json.dumps(post(body)[1]), [named])
    kfp_error(post(b'{"display_name": '), 400, 3)
    kfp_error(post(b"[]"), 400, 3)
    kfp_error(post(b'{"display_name": "a", "display_name": "b"}'), 400, 3)
    kfp_error(post(b'\xff{"display_name": "x"}'), 400, 3)
    kfp_error(post(b"[" * 100_000), 400, 3)
    kfp_error(post(dict(run, display_name=7)), 400, 3, "display_name")
    kfp_error(post({"pipeline_spec": SPEC}), 400, 3, "display_name")
    kfp_error(post({"display_name": "x"}), 400, 3)
    kfp_error(post(dict(run, experiment_id=NOBODY)), 404, 5, NOBODY)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        kfp_error(post(run, kind), 415, 3, "application/json")


@suite.test
def wrong_routes_and_methods_are_refused(server):
    kfp_error(server.call("GET", f"{KFP}/unknown"), 404, 5)
    kfp_error(server.call("GET", f"{KFP}/runs/{NOBODY}"), 404, 5, NOBODY)
    kfp_error(server.call("GET", f"{KFP}/runs/not-an-id"), 404, 5)
    found = server.call("PUT", f"{KFP}/runs", {})
    kfp_error(found, 405, 12)
    equal(found[2]["Allow"], "GET, POST")
    own_error(server.call("GET", "/nowhere"), 404, "NOT_FOUND")
    # Unknown query parameters are ignored, as upstream does.
    equal(server.call("GET", f"{KFP}/runs?colour=red")[0], 200)


@suite.test
def a_run_that_succeeded_is_not_retried(server):
    run = create(server, "not retried")
    server.wait(run["run_id"])
    kfp_error(server.call("POST", f"{KFP}/runs/{run['run_id']}:retry"), 400, 9)


@suite.test
def health_is_told(server):
    for version in ("v1beta1", "v2beta1"):
        body = server.get(f"/apis/{version}/healthz")
        equal((body["multi_user"], body["pipeline_store"]), (False, "database"))
        assert {"commit_sha", "tag_name"} <= set(body), body
    for path in ("/livez", "/readyz"):
        equal(server.call("GET", path, raw=True)[1], b"ok\n")


@suite.test
def lists_have_pages(server):
    status, experiment, _ = server.call("POST", f"{KFP}/experiments", {"display_name": "pages"})
    equal(status, 200, experiment)
    parent = experiment["experiment_id"]
    made = [create(server, f"page {number}", experiment_id=parent)["run_id"] for number in range(7)]

    def page(**query):
        return server.call("GET", f"{KFP}/runs?" + urllib.parse.urlencode(dict(query, experiment_id=parent)))

    seen, token, sizes = [], "", []
    while True:
        status, body, _ = page(page_size=3, page_token=token, sort_by="created_at asc", namespace="")
        equal(status, 200, body)
        equal(body["total_size"], 7)
        seen += [run["run_id"] for run in body["runs"]]
        sizes.append(len(body["runs"]))
        token = body.get("next_page_token")
        if not token:
            break
        if len(sizes) == 1:
            # What comes in between does not shift pages.
            server.call("POST", f"{KFP}/runs/{made[0]}:archive")
    equal((seen, sizes), (made, [3, 3, 1]))
    first = page(page_size=2)[1]["next_page_token"]
    kfp_error(page(page_token=first, sort_by="name"), 400, 3)
    kfp_error(page(page_token=first[:-4] + "AAAA"), 400, 3)
    kfp_error(page(page_token="%00"), 400, 3)
    kfp_error(page(page_size=-1), 400, 3, "page_size")
    kfp_error(page(page_size="many"), 400, 3, "page_size")
    pipelines = server.call("GET", f"{KFP}/pipelines?page_token={first}")
    kfp_error(pipelines, 400, 3)
    equal(page(page_size=100000)[0], 200)


@suite.test
def pages_of_large_specifications_end_early(server):
    """A page stays small when what it lists is large, and no run is lost or told twice."""
    made = []
    for number in range(5):
        spec = dict(SPEC, pipelineInfo=dict(SPEC["pipelineInfo"], description=f"{number}" + "x" * (5 << 18)))
        status, run, _ = server.call("POST", f"{KFP}/runs", {"display_name": f"large {number}", "pipeline_spec": spec})
        equal(status, 200, run)
        made.append(run["run_id"])
    wanted = predicates({"operation": "IS_SUBSTRING", "key": "name", "string_value": "large"})
    seen, pages, token = [], 0, ""
    while True:
        query = f"page_size=200&sort_by=created_at&filter={wanted}&page_token={token}"
        status, page, _ = server.call("GET", f"{KFP}/runs?{query}")
        equal(status, 200, page)
        assert len(json.dumps(page)) < 4 << 20, len(json.dumps(page))
        seen += [run["run_id"] for run in page["runs"]]
        pages += 1
        token = page.get("next_page_token", "")
        if not token:
            break
    equal((seen, pages), (made, 3))


@suite.test
def filters_have_the_full_grammar(server):
    status, experiment, _ = server.call("POST", f"{KFP}/experiments", {"display_name": "filters"})
    equal(status, 200, experiment)
    parent = experiment["experiment_id"]
    runs = [create(server, name, experiment_id=parent, description=f"about {name}") for name in ("alpha", "beta", "al%pha")]

    def names(text):
        status, body, _ = server.call("GET", f"{KFP}/runs?experiment_id={parent}&sort_by=name&filter={text}")
        equal(status, 200, body)
        return [run["display_name"] for run in body.get("runs", [])]

    def one(operation, key, **value):
        return {"operation": operation, "key": key, **value}

    equal(names(predicates(one("EQUALS", "display_name", string_value="beta"))), ["beta"])
    equal(names(predicates(one(1, "name", stringValue="beta"))), ["beta"])
    equal(names(predicates(one("NOT_EQUALS", "name", string_value="beta"))), ["al%pha", "alpha"])
    equal(names(predicates(one("IS_SUBSTRING", "name", string_value="l%p"))), ["al%pha"])
    equal(names(predicates(one("IN", "name", string_values={"values": ["beta", "alpha"]}))), ["alpha", "beta"])
    equal(names(predicates(one("EQUALS", "description", string_value="about alpha"))), ["alpha"])
    equal(names(predicates(one("EQUALS", "id", string_value=runs[0]["run_id"]))), ["alpha"])
    at = runs[0]["created_at"]
    equal(len(names(predicates(one("GREATER_THAN_EQUALS", "created_at", timestamp_value=at)))), 3)
    equal(names(predicates(one("LESS_THAN", "created_at", timestamp_value="2020-01-01T00:00:00Z"))), [])
    both = predicates(one("IS_SUBSTRING", "name", string_value="alpha"), one("EQUALS", "storage_state", string_value="AVAILABLE"))
    equal(names(both), ["alpha"])
    equal(names(urllib.parse.quote(both)), ["alpha"])
    equal(len(names("")), 3)
    for wrong in (
        predicates(one("EQUALS", "colour", string_value="x")),
        predicates(one("SOUNDS_LIKE", "name", string_value="x")),
        predicates(one("IN", "name", string_value="x")),
        predicates(one("EQUALS", "name", string_values={"values": ["x"]})),
        predicates(one("IS_SUBSTRING", "created_at", timestamp_value=at)),
        predicates(one("EQUALS", "name")),
        "%7Bnot",
    ):
        kfp_error(server.call("GET", f"{KFP}/runs?filter={wrong}"), 400, 3)
    kfp_error(server.call("GET", f"{KFP}/runs?filter=" + predicates(one("EQUALS", "colour", string_value="x"))), 400, 3, "colour")


@suite.test
def names_are_looked_up_and_versions_are_made(server):
    status, made, _ = server.call(
        "POST", f"{KFP}/pipelines/create",
        {"pipeline": {"name": "both", "display_name": "Both"}, "pipeline_version": {"name": "one", "pipeline_spec": SPEC}},
    )
    equal(status, 200, made)
    found = server.get(f"{KFP}/pipelines/names/both")
    equal((found["pipeline_id"], found["display_name"]), (made["pipeline_id"], "Both"))
    status, changed, _ = server.call(
        "PATCH", f"{KFP}/pipelines/{made['pipeline_id']}", {"display_name": "Both!", "tags": {"team": "a"}}
    )
    equal((status, changed.get("tags")), (200, {"team": "a"}))
    tagged = predicates({"operation": "EQUALS", "key": "tags.team", "string_value": "a"})
    equal([one["name"] for one in server.get(f"{KFP}/pipelines?filter={tagged}")["pipelines"]], ["both"])
    kfp_error(server.call("DELETE", f"{KFP}/pipelines/{made['pipeline_id']}"), 400, 3, "cascade")
    equal(server.call("DELETE", f"{KFP}/pipelines/{made['pipeline_id']}?cascade=true")[:2], (200, {}))
    kfp_error(server.call("GET", f"{KFP}/pipelines/names/both"), 404, 5)


@suite.test
def keys_make_repetitions_harmless(server):
    body = {"display_name": "once", "pipeline_spec": SPEC}
    key = {"Idempotency-Key": "4711-0815", "Content-Type": "application/json"}

    def post(body):
        return server.call("POST", f"{KFP}/runs", json.dumps(body).encode(), key)

    first, again = post(body), post(body)
    equal((first[0], again[0]), (200, 200), again[1])
    equal(again[1]["run_id"], first[1]["run_id"])
    kfp_error(post(dict(body, display_name="twice")), 400, 9)
    listed = server.get(f"{KFP}/runs?filter=" + predicates({"operation": 1, "key": "name", "string_value": "once"}))
    equal(listed["total_size"], 1)


@suite.test
def the_own_api_has_googles_shape_of_errors(server):
    details = own_error(server.call("GET", f"{OWN}/runs/{NOBODY}"), 404, "NOT_FOUND", NOBODY)
    assert {"ErrorInfo", "ResourceInfo"} <= set(details), details
    details = own_error(server.call("GET", f"{OWN}/artifacts?page_size=-1"), 400, "INVALID_ARGUMENT", "page_size")
    equal(details["ErrorInfo"]["reason"], "PAGE_SIZE_INVALID")
    details = own_error(server.call("POST", f"{OWN}/specs:validate", {"paper": ""}), 400, "INVALID_ARGUMENT", "paper")
    [violation] = next(value for name, value in details["BadRequest"].items() if name.lower().startswith("field"))
    equal(violation["field"], "paper")
    own_error(server.call("GET", f"{OWN}/artifacts/x"), 400, "INVALID_ARGUMENT")
    own_error(server.call("GET", f"{OWN}/artifacts/9223372036854775807"), 404, "NOT_FOUND")
    own_error(server.call("POST", f"{OWN}/specs:validate", b"{}", {"Content-Type": "text/plain"}), 415, "INVALID_ARGUMENT")


@suite.test
def specifications_are_checked_without_being_kept(server):
    document = yaml.safe_dump(SPEC)
    equal(server.call("POST", f"{OWN}/specs:validate", {"document": document})[:2], (200, {}))
    broken = document.replace("comp-count\n", "comp-gone\n")
    status, body, _ = server.call("POST", f"{OWN}/specs:validate", {"document": broken})
    equal(status, 200, body)
    assert any("comp-gone" in fault["message"] and "count" in fault["field"] for fault in body["faults"]), body


@suite.test
def logs_and_artifacts_are_read(server):
    run = create(server, "read")["run_id"]
    server.wait(run)
    tasks = server.tasks(run)
    fetch = tasks["fetch"]["task_id"]
    for path in (
        f"/apis/v1alpha1/runs/{run}/nodes/{fetch}/log",
        f"/apis/v1alpha1/runs/{run}/nodes/fetch/log?follow=true",
        f"{OWN}/runs/{run}/tasks/{fetch}/logs?follow=false",
    ):
        status, body, headers = server.call("GET", path, raw=True)
        equal((status, body), (200, b""), path)
        assert headers["Content-Type"].startswith("text/plain"), headers
    [artifact] = tasks["fetch"]["output_artifacts"]["file"]["ids"]
    for version in ("v1beta1", "v2beta1"):
        read = server.get(f"/apis/{version}/runs/{run}/nodes/{fetch}/artifacts/file:read")
        equal(read, {"data": "b25lIHR3byB0aHJlZQo="})
    status, body, headers = server.call("GET", f"{OWN}/artifacts/{artifact}:download", raw=True)
    equal((status, body), (200, b"one two three\n"))
    equal(headers["Content-Security-Policy"], "sandbox")
    assert headers["Content-Disposition"].startswith("attachment"), headers
    equal(int(headers["Content-Length"]), 14)
    kfp_error(server.call("GET", f"{KFP}/runs/{run}/nodes/{fetch}/artifacts/gone:read"), 404, 5)
    kfp_error(server.call("GET", f"/apis/v1alpha1/runs/{run}/nodes/gone/log"), 404, 5)
    kfp_error(server.call("GET", f"/apis/v1alpha1/runs/{run}/nodes/fetch/log?follow=maybe"), 400, 3)
    for path in ("../x", "/etc/passwd", "a"):
        query = urllib.parse.urlencode({"path": path})
        status, body, _ = server.call("GET", f"{OWN}/artifacts/{artifact}:download?{query}")
        assert status in (400, 404), (path, status, body)


def listing():
    """A pipeline whose artifacts come as lists: what loops collect, and no SDK can declare for a component of its own."""
    parts = {"parts": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}, "isArtifactList": True}}
    make = 'for n in a b; do printf $n >"$0-$n"; done; printf %s "$2" | sed "s,DIR,$0,g" >"$1"'
    entries = [{"name": name, "uri": f"DIR-{name}", "metadata": {"place": place}} for place, name in enumerate("ab")]
    executors = {
        "exec-make": ["sh", "-c", make, "{{$.outputs.artifacts['parts'].path}}", "{{$.outputs.output_file}}"]
        + [json.dumps({"artifacts": {"parts": {"artifacts": entries}}})],
        "exec-read": ["sh", "-c", 'printf %s "$0" >"$1"', "{{$}}", "{{$.outputs.parameters['seen'].output_file}}"],
    }
    read = {"taskInfo": {"name": "read"}, "componentRef": {"name": "comp-read"}, "dependentTasks": ["make"]}
    read["inputs"] = {"artifacts": {"parts": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "parts"}}}}
    return {
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "pipelineInfo": {"name": "lists"},
        "components": {
            "comp-make": {"executorLabel": "exec-make", "outputDefinitions": {"artifacts": parts}},
            "comp-read": {
                "executorLabel": "exec-read",
                "inputDefinitions": {"artifacts": parts},
                "outputDefinitions": {"parameters": {"seen": {"parameterType": "STRING"}}},
            },
        },
        "deploymentSpec": {
            "executors": {name: {"container": {"image": "alpine", "command": command}} for name, command in executors.items()}
        },
        "root": {
            "dag": {
                "tasks": {
                    "make": {"taskInfo": {"name": "make"}, "componentRef": {"name": "comp-make"}},
                    "read": read,
                }
            }
        },
    }


@suite.test
def lists_of_artifacts_are_passed_on(server):
    run = create(server, "lists", pipeline_spec=listing())["run_id"]
    ended = server.wait(run)
    equal(ended["state"], "SUCCEEDED", ended.get("message"))
    tasks = server.tasks(run)
    made = tasks["make"]["output_artifacts"]["parts"]["ids"]
    equal(len(made), 2)
    equal(tasks["read"]["input_artifacts"]["parts"]["ids"], made)
    for place, found in enumerate(map(server.artifact, made)):
        equal((found["metadata"], int(found["size_bytes"]), found["type"]), ({"place": place}, 1, "system.Dataset"))
    seen = json.loads(tasks["read"]["output_parameters"]["seen"])["inputs"]["artifacts"]["parts"]["artifacts"]
    equal([one["metadata"]["place"] for one in seen], [0, 1])
    equal([open(one["uri"]).read() for one in seen], ["a", "b"])


def waiting(folder):
    """The pipeline with a first step that writes a line, then waits for a file."""
    spec = json.loads(json.dumps(SPEC))
    container = spec["deploymentSpec"]["executors"]["exec-fetch"]["container"]
    container["command"] = ["sh", "-c", f'echo begin; printf "%s" "$0" >"$1"; until [ -e {folder}/go ]; do sleep 0.05; done; echo end']
    return spec


@suite.test
def a_log_and_a_watch_are_followed_while_the_step_runs(server):
    folder = server.folder / "follow"
    folder.mkdir()
    run = create(server, "followed", pipeline_spec=waiting(folder))["run_id"]
    deadline = time.monotonic() + 20
    while server.tasks(run).get("fetch", {}).get("state") != "RUNNING":
        assert time.monotonic() < deadline, server.tasks(run)
        time.sleep(0.05)
    with stream(server, f"/apis/v1alpha1/runs/{run}/nodes/fetch/log?follow=true") as log, stream(
        server, f"{OWN}/runs/{run}:watch"
    ) as watch:
        equal(log.readline(), b"begin\n")
        first = json.loads(watch.readline())
        first = first.get("result", first)
        equal(first["run"]["state"], "RUNNING")
        # A reader that goes away in the middle disturbs nobody.
        with stream(server, f"/apis/v1alpha1/runs/{run}/nodes/fetch/log?follow=true") as gone:
            equal(gone.readline(), b"begin\n")
        (folder / "go").touch()
        equal(log.readline(), b"end\n")
        equal(log.read(), b"")
        lines = [json.loads(line) for line in watch.read().splitlines() if line]
        last = lines[-1].get("result", lines[-1])
        equal(last["run"]["state"], "SUCCEEDED")


def stream(server, path):
    return OPENER.open(server.url + path, timeout=30)


if __name__ == "__main__":
    finish(suite)
