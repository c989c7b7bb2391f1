"""What the suites of raw clients share: calls, the shapes of errors, and a pipeline."""

import json
import urllib.parse

from _harness import ROOT, Server, equal

KFP = "/apis/v2beta1"
OWN = "/apis/flumina.pipelines/v1"
SPEC = json.loads((ROOT / "examples/clients/pipeline.json").read_text())
NOBODY = "0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea10"

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


def finish(suite):
    """Runs a suite against a server of its own, which must be well after all of it."""
    with suite.guard("the server"), Server() as server:
        suite.run(server, workers=2)

        def is_well(server):
            equal(server.wait(create(server, "last")["run_id"])["state"], "SUCCEEDED")

        def left_nothing(server):
            name = predicates({"operation": "IS_SUBSTRING", "key": "name", "string_value": "refused"})
            for kind in ("pipelines", "runs"):
                equal(server.get(f"{KFP}/{kind}?filter={name}").get("total_size", 0), 0, kind)

        suite.add("the server is well after all of it", is_well)
        suite.add("what was refused left nothing", left_nothing)
        suite.run(server)
    suite.close()
