# python: tools
"""The surface as raw clients see it: REST by the standard library, gRPC by reflection alone, gRPC-web by hand."""

import gzip
import io
import json
import socket
import struct
import tarfile
import time
import urllib.parse
import zipfile

import grpc
import yaml
from _harness import ROOT, Server, Suite, equal
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

KFP = "/apis/v2beta1"
OWN = "/apis/flumina.pipelines/v1"
SPEC = json.loads((ROOT / "examples/clients/pipeline.json").read_text())
NOBODY = "0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea10"
suite = Suite()


def kfp_error(answer, status, code, *words):
    """Kubeflow's shape of an error."""
    found, body, headers = answer
    equal(found, status, body)
    equal(headers["Content-Type"], "application/json")
    equal(sorted(body), ["code", "details", "error", "message"])
    equal((body["code"], body["error"]), (code, body["message"]))
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": body["message"]}
    equal(body["details"], [detail])
    said(body["message"], words)


def upload_error(answer, status, *words):
    found, body, _ = answer
    equal(found, status, body)
    equal(sorted(body), ["error_details", "error_message"])
    said(body["error_message"], words)


def own_error(answer, status, name, *words):
    found, body, _ = answer
    equal(found, status, body)
    equal((body["error"]["code"], body["error"]["status"]), (status, name))
    said(json.dumps(body), words)
    return {detail["@type"].rsplit(".", 1)[1]: detail for detail in body["error"]["details"]}


def said(text, words):
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def create(server, name="api", **more):
    body = {"display_name": name, "pipeline_spec": SPEC, **more}
    status, run, _ = server.call("POST", f"{KFP}/runs", body)
    equal(status, 200, run)
    return run


def upload(server, content, file="pipeline.yaml", path="pipelines/upload", field="uploadfile", **query):
    boundary = "----boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{file}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return server.call("POST", f"{KFP}/{path}?{urllib.parse.urlencode(query)}", body, kind)


def predicates(*found):
    return urllib.parse.quote(json.dumps({"predicates": list(found)}))


# --- REST: Kubeflow's dialect ---------------------------------------------------------------------------------------


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
    equal(sorted(found[2]["Allow"].split(", ")), ["GET", "HEAD", "POST"] if "HEAD" in found[2]["Allow"] else ["GET", "POST"])
    kfp_error(server.call("GET", f"{KFP}/runs?colour=red"), 400, 3, "colour") if strict_queries(server) else None
    own_error(server.call("GET", "/nowhere"), 404, "NOT_FOUND")


def strict_queries(server):
    """Unknown query parameters are ignored by upstream's gateway; either is fine, as long as it is a clear answer."""
    return server.call("GET", f"{KFP}/runs?colour=red")[0] != 200


@suite.test
def what_comes_later_says_so(server):
    run = create(server, "not retried")
    server.wait(run["run_id"])
    kfp_error(server.call("POST", f"{KFP}/runs/{run['run_id']}:retry"), 501, 12)
    kfp_error(server.call("GET", f"{KFP}/recurringruns"), 501, 12)
    kfp_error(server.call("POST", f"{KFP}/recurringruns", {"display_name": "x"}), 501, 12)


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


# --- Uploads --------------------------------------------------------------------------------------------------------


def tar(*members, kind=tarfile.REGTYPE):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


@suite.test
def packages_come_in_every_form(server):
    text, document = yaml.safe_dump(SPEC).encode(), json.dumps(SPEC).encode()
    forms = {
        "a.yaml": text,
        "b.yml": b"# a comment\n" + text,
        "c.json": document,
        "d.zip": zipped(("readme.md", b"x"), ("pipeline.yaml", text)),
        "e.tar.gz": tar(("other.txt", b"x"), ("pipeline.yaml", text)),
        "f.whatever": zipped(("only.yaml", text)),
        "g.tgz": tar(("./pipeline.yaml", text)),
    }
    for file, content in forms.items():
        status, body, _ = upload(server, content, file, name=f"form {file}", description="d")
        equal(status, 200, (file, body))
        equal((body["name"], body["description"]), (f"form {file}", "d"))
        [version] = server.get(f"{KFP}/pipelines/{body['pipeline_id']}/versions")["pipeline_versions"]
        equal(version["pipeline_spec"]["root"], SPEC["root"], file)
    status, body, _ = upload(server, text, "unnamed.yaml")
    assert status == 200 and body["name"].startswith("unnamed"), body
    status, version, _ = upload(server, text, path="pipelines/upload_version", name="second", pipelineid=body["pipeline_id"])
    equal((status, version["pipeline_id"]), (200, body["pipeline_id"]), version)
    upload_error(upload(server, text, path="pipelines/upload_version", name="third"), 400)
    upload_error(upload(server, text, "again.yaml", name="form a.yaml"), 409, "form a.yaml")


def spec_text(change):
    spec = json.loads(json.dumps(SPEC))
    change(spec)
    return yaml.safe_dump(spec).encode()


def at(spec, path, value):
    *path, last = path.split("/")
    for key in path:
        spec = spec[key]
    spec[last] = value


def dependent(task, name):
    return lambda spec: spec["root"]["dag"]["tasks"][task].setdefault("dependentTasks", []).append(name)


def refused_packages():
    text = yaml.safe_dump(SPEC).encode()
    tasks = "root/dag/tasks"
    yield "malformed YAML", b"a: [b", "x.yaml", 400, ()
    yield "not a pipeline", b"just: text\n", "x.yaml", 400, ()
    yield "binary", b"\x00\x01\x02", "x.yaml", 400, ()
    yield "empty", b"", "x.yaml", 400, ()
    yield "an unknown kind of file", text, "x.exe", 400, (".yaml",)
    yield "no root", spec_text(lambda spec: spec.pop("root")), "x.yaml", 400, ("root",)
    yield "another schema", spec_text(lambda spec: at(spec, "schemaVersion", "3.0.0")), "x.yaml", 400, ("schemaVersion",)
    yield "an unknown field", spec_text(lambda spec: at(spec, "root/colour", "red")), "x.yaml", 400, ("colour",)
    unknown = spec_text(lambda spec: at(spec, f"{tasks}/count/componentRef/name", "comp-gone"))
    yield "an unknown component", unknown, "x.yaml", 400, ("comp-gone", "count")
    yield "a cycle", spec_text(dependent("fetch", "report")), "x.yaml", 400, ("fetch",)
    yield "an unknown task", spec_text(dependent("count", "gone")), "x.yaml", 400, ("gone", "count")
    wrong_type = spec_text(
        lambda spec: at(spec, f"{tasks}/report/inputs/parameters/words", {"runtimeValue": {"constant": {"a": 1}}})
    )
    yield "a type mismatch", wrong_type, "x.yaml", 400, ("words", "report")
    missing = spec_text(lambda spec: spec["root"]["dag"]["tasks"]["report"]["inputs"]["parameters"].pop("words"))
    yield "a missing input", missing, "x.yaml", 400, ("words", "report")
    foreign = spec_text(
        lambda spec: at(spec, f"{tasks}/fetch/inputs/parameters/colour", {"runtimeValue": {"constant": "red"}})
    )
    yield "an input that no component has", foreign, "x.yaml", 400, ("colour", "fetch")
    yield "deep nesting", b"a: " + b"[" * 50_000, "x.yaml", 400, ()
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n".encode() for n in range(9)
    )
    yield "a bomb of aliases", bomb, "x.yaml", 400, ()
    yield "a huge document", b"#" * (33 << 20), "x.yaml", 413, ()
    yield "a zip bomb", zipped(("pipeline.yaml", b" " * (200 << 20))), "x.zip", 413, ()
    yield "a gzip bomb", gzip.compress(b"\0" * (300 << 20), 6), "x.tar.gz", (400, 413), ()
    yield "a zip member that leads out", zipped(("../pipeline.yaml", text)), "x.zip", 400, ("..",)
    yield "a tar member that leads out", tar(("a/../../pipeline.yaml", text)), "x.tar.gz", 400, ("..",)
    yield "an absolute member", tar(("/etc/pipeline.yaml", text)), "x.tar.gz", 400, ()
    yield "a link", tar(("pipeline.yaml", b""), kind=tarfile.SYMTYPE), "x.tar.gz", 400, ()
    yield "a truncated tar", tar(("pipeline.yaml", text))[:400], "x.tar.gz", 400, ()
    yield "a truncated zip", zipped(("pipeline.yaml", text))[:-20], "x.zip", 400, ()
    yield "an archive without a pipeline", zipped(("a.txt", b"x")), "x.zip", 400, ("pipeline.yaml",)


def refuse_package(server, content, file, status, words):
    answer = upload(server, content, file, name="refused")
    upload_error(answer, answer[0] if isinstance(status, tuple) and answer[0] in status else status, *words)


for _name, _content, _file, _status, _words in refused_packages():
    suite.add(
        f"{_name} is refused",
        lambda server, content=_content, file=_file, status=_status, words=_words: refuse_package(
            server, content, file, status, words
        ),
    )


@suite.test
def wrong_forms_are_refused(server):
    text = yaml.safe_dump(SPEC).encode()
    upload_error(upload(server, text, field="other", name="refused"), 400, "uploadfile")
    upload_error(server.call("POST", f"{KFP}/pipelines/upload", text, {"Content-Type": "application/yaml"}), 415)
    upload_error(upload(server, text, name="refused" * 40), 400, "name")
    upload_error(upload(server, text, name="refused", tags="[1]"), 400, "tags")
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="uploadfile"; filename="a.yaml"\r\n\r\nschemaVersion'
    upload_error(server.call("POST", f"{KFP}/pipelines/upload?name=refused", body, kind), 400)


@suite.test
def a_truncated_upload_leaves_nothing(server):
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"POST {KFP}/pipelines/upload?name=refused HTTP/1.1\r\nHost: {server.address}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n".encode()
        )
    name = predicates({"operation": 1, "key": "name", "string_value": "refused"})
    equal(server.get(f"{KFP}/pipelines?filter={name}").get("total_size", 0), 0)


# --- The own API ----------------------------------------------------------------------------------------------------


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
    import urllib.request

    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server.url + path, timeout=30)


# --- gRPC -----------------------------------------------------------------------------------------------------------


class Reflected:
    """A client that knows nothing but what the server says about itself."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def call(self, method, body, **options):
        service, name = method.rsplit(".", 1)
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        request = message_factory.GetMessageClass(found.input_type)
        response = message_factory.GetMessageClass(found.output_type)
        make = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        call = make(
            f"/{service}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        answer = call(json_format.ParseDict(body, request()), timeout=30, **options)
        shown = lambda one: json_format.MessageToDict(one, preserving_proto_field_name=True)  # noqa: E731
        return [shown(one) for one in answer] if found.server_streaming else shown(answer)


PIPELINES = "kubeflow.pipelines.backend.api.v2beta1"


@suite.test
def reflection_lists_the_services(server):
    with grpc.insecure_channel(server.address) as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    wanted = {f"{PIPELINES}.{name}Service" for name in ("Pipeline", "Run", "RecurringRun", "Experiment", "Healthz", "Auth")}
    wanted |= {f"flumina.pipelines.v1.{name}Service" for name in ("Run", "Artifact", "Spec")}
    wanted |= {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"}
    equal(wanted - listed, set())
    # What only the parts of the fleet may call is neither listed nor served.
    assert not any(name.startswith(("flumina.runner", "flumina.step")) for name in listed), listed


@suite.test
def a_client_by_reflection_creates_and_watches(server):
    with grpc.insecure_channel(server.address) as channel:
        client = Reflected(channel)
        run = client.call(f"{PIPELINES}.RunService.CreateRun", {"run": {"display_name": "reflected", "pipeline_spec": SPEC}})
        updates = client.call("flumina.pipelines.v1.RunService.WatchRun", {"run_id": run["run_id"]})
        equal(updates[-1]["run"]["state"], "SUCCEEDED")
        listed = client.call(f"{PIPELINES}.RunService.ListRuns", {"page_size": 1, "sort_by": "created_at desc"})
        assert listed["next_page_token"], listed
        health = client.call("grpc.health.v1.Health.Check", {})
        equal(health, {"status": "SERVING"})


@suite.test
def grpc_errors_have_codes_and_details(server):
    def refused(method, body, **options):
        with grpc.insecure_channel(server.address) as channel:
            try:
                Reflected(channel).call(method, body, **options)
            except grpc.RpcError as error:
                return error
        raise AssertionError(f"{method} was not refused")

    error = refused(f"{PIPELINES}.RunService.GetRun", {"run_id": NOBODY})
    equal(error.code(), grpc.StatusCode.NOT_FOUND)
    assert NOBODY in error.details(), error.details()
    assert "grpc-status-details-bin" in dict(error.trailing_metadata()), error.trailing_metadata()
    equal(refused(f"{PIPELINES}.RunService.RetryRun", {"run_id": NOBODY}).code(), grpc.StatusCode.UNIMPLEMENTED)
    equal(refused(f"{PIPELINES}.RunService.ListRuns", {"page_token": "x"}).code(), grpc.StatusCode.INVALID_ARGUMENT)
    with grpc.insecure_channel(server.address) as channel:
        launch = channel.unary_unary("/flumina.runner.v1.WorkloadService/Launch")
        try:
            launch(b"", timeout=10)
        except grpc.RpcError as error:
            equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        else:
            raise AssertionError("the runner answers to strangers")


@suite.test
def grpc_web_is_spoken(server):
    path = "/kubeflow.pipelines.backend.api.v2beta1.HealthzService/GetHealthz"
    status, body, headers = server.call(
        "POST", path, b"\0\0\0\0\0", {"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"}, raw=True
    )
    equal(status, 200)
    assert headers["Content-Type"].startswith("application/grpc-web"), headers
    frames = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        frames.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    # `pipeline_store`, field 4; then the trailers.
    equal(frames[0], (0, b'"\x08database'))
    equal(frames[-1][0], 0x80)
    said(frames[-1][1].decode().replace(" ", ""), ["grpc-status:0"])


# --- Who may come in ------------------------------------------------------------------------------------------------


@suite.test
def foreign_hosts_origins_and_sites_are_refused(server):
    _, port = server.address.rsplit(":", 1)
    for headers in (
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{int(port) + 1}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = server.call("GET", f"{KFP}/runs", headers=headers)
        kfp_error(answer, 403, 7)
        assert "Access-Control-Allow-Origin" not in answer[2], headers
    preflight = server.call(
        "OPTIONS", f"{KFP}/runs", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    equal(preflight[0], 403)
    for headers in ({"Host": f"localhost:{port}"}, {"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        equal(server.call("GET", f"{KFP}/runs", headers=headers)[0], 200, headers)


@suite.test
def a_token_is_asked_for_by_every_way_in(server):
    with Server(token="the-token-of-the-api-suite") as guarded:
        anonymous = {"Authorization": ""}
        for path in (f"{KFP}/runs", f"{KFP}/healthz", "/apis/v1alpha1/runs/x/nodes/y/log"):
            answer = guarded.call("GET", path, headers=anonymous)
            kfp_error(answer, 401, 16)
            equal(answer[2]["WWW-Authenticate"], "Bearer")
        own_error(guarded.call("GET", f"{OWN}/artifacts", headers=anonymous), 401, "UNAUTHENTICATED")
        equal(guarded.call("POST", f"{KFP}/pipelines/upload", b"", anonymous)[0], 401)
        equal(guarded.call("GET", "/livez", headers=anonymous, raw=True)[0], 200)
        with grpc.insecure_channel(guarded.address) as channel:
            call = channel.unary_unary(f"/{PIPELINES}.RunService/ListRuns")
            for metadata, wanted in (([], grpc.StatusCode.UNAUTHENTICATED), ([("authorization", "Bearer x")], grpc.StatusCode.UNAUTHENTICATED)):
                try:
                    call(b"", metadata=metadata, timeout=10)
                except grpc.RpcError as error:
                    equal(error.code(), wanted)
                else:
                    raise AssertionError("no token was asked for")
            call(b"", metadata=[("authorization", f"Bearer {guarded.token}")], timeout=10)
        equal(guarded.call("GET", f"{KFP}/runs")[0], 200)


def main():
    with suite.guard("the server"), Server() as server:
        suite.run(server, workers=2)

        @suite.test
        def the_server_is_well_after_all_of_it(server):
            equal(server.wait(create(server, "last")["run_id"])["state"], "SUCCEEDED")

        @suite.test
        def what_was_refused_left_nothing(server):
            name = predicates({"operation": "IS_SUBSTRING", "key": "name", "string_value": "refused"})
            equal(server.get(f"{KFP}/pipelines?filter={name}").get("total_size", 0), 0)

        suite.run(server)
    suite.close()


if __name__ == "__main__":
    main()
