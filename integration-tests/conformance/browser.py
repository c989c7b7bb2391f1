# python: tools
"""Foreign pages in a real Chromium: none creates a run, uploads or reads anything (../browser/foreign.mjs)."""

import base64
import json
import re
import subprocess

from _harness import ROOT, Server, Suite, environment, equal
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

suite = Suite()


def message(name):
    """A message of our contracts, without generated code."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "libs/api/kfp/src/gen/descriptor.bin").read_bytes())
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def counts(server):
    """What a page could have changed."""
    return {
        kind: server.get(f"/apis/v2beta1/{kind}?page_size=200").get("total_size", 0)
        for kind in ("runs", "pipelines", "experiments")
    }


def prepare(server):
    """A run to spy on, and the bodies of attacks."""
    spec = json.loads((ROOT / "examples/clients/pipeline.json").read_text())
    body = {"display_name": "foreign", "pipeline_spec": spec}
    status, run, _ = server.call("POST", "/apis/v2beta1/runs", dict(body, display_name="secret"))
    equal(status, 200, run)
    equal(server.wait(run["run_id"])["state"], "SUCCEEDED")
    task = server.tasks(run["run_id"])["fetch"]
    kind = message("kubeflow.pipelines.backend.api.v2beta1.CreateRunRequest")
    request = json_format.ParseDict({"run": body}, kind()).SerializeToString()
    frame = b"\0" + len(request).to_bytes(4, "big") + request
    return {
        "run": json.dumps(body),
        "pipelineFile": json.dumps(spec),
        "grpcWeb": base64.b64encode(frame).decode(),
        "runId": run["run_id"],
        "taskId": task["task_id"],
        "artifactId": task["output_artifacts"]["file"]["ids"][0],
    }


def drive(server, attack):
    env = environment()
    given = {
        "target": server.url,
        "chromium": env["chromium"],
        "nodeModules": env["node_modules"],
        "attack": attack,
        "admin": server.admin(),
    }
    done = subprocess.run(
        [env["node"], str(ROOT / "integration-tests/browser/foreign.mjs")],
        input=json.dumps(given), capture_output=True, text=True, timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def answers(metrics):
    """The requests that the server answered, by protocol and status."""
    found = {}
    for line in metrics.splitlines():
        match = re.match(r'\w*gateway_requests_total\{protocol="(\w+)",status="(\d+)"\} (\d+)', line)
        if match:
            found[match[1].lower(), match[2]] = int(match[3])
    return found


def declare(server, before, found):
    pages = {page.pop("name"): page for page in found["results"]}
    own = pages.pop("own")

    def learns_nothing(page):
        assert len(page["learned"]) > 40, page["learned"]
        leaks = {attack: found for attack, found in page["learned"].items() if found != "nothing"}
        equal(leaks, {})

    def is_refused(page):
        answers = {tuple(answer) for answer in page["answers"]}
        api = {answer for answer in answers if answer[1].startswith(("/apis", "/kubeflow"))}
        assert api, answers
        equal({answer for answer in api if answer[2] != 403}, set())

    for name, page in pages.items():
        suite.add(f"{name} learns nothing", lambda page=page: learns_nothing(page))
        suite.add(f"{name} is refused", lambda page=page: is_refused(page))

    @suite.test
    def the_server_refused_every_request_of_theirs():
        """By its own count, since the browser hides most answers."""
        earlier, later = (answers(found[when]) for when in ("before", "after"))
        grown = {key: count - earlier.get(key, 0) for key, count in later.items() if count != earlier.get(key)}
        equal({status for _, status in grown}, {"403"}, grown)
        assert grown["http", "403"] > 60 * len(pages), grown
        assert grown["grpcweb", "403"] >= 2, grown

    @suite.test
    def a_rebound_name_sees_not_even_the_page():
        answers = {path: status for _, path, status in pages["a rebound name"]["answers"]}
        equal(answers["/"], 403)

    @suite.test
    def the_admin_port_tells_pages_nothing_and_obeys_none():
        equal(len(found["admin"]), 3)
        for page in found["admin"]:
            equal({what for what in page["learned"].values()}, {"nothing"}, page)
            equal({status for status in page["statuses"] if status != 403}, set(), page)
        rebound = found["admin"][-1]
        equal(rebound["statuses"], [403] * len(rebound["learned"]), rebound)

    @suite.test
    def our_own_page_may_do_all_of_it():
        found = own["statuses"]
        equal((found["list"], found["create"], found["upload"]), (200, 200, 200))
        equal(found["grpcWeb"], "200 0")
        equal(found["text"], 415)

    @suite.test
    def nothing_but_our_own_page_changed_anything():
        expected = {"runs": before["runs"] + 2, "pipelines": before["pipelines"] + 1, "experiments": before["experiments"]}
        equal(counts(server), expected)
        names = [pipeline["name"] for pipeline in server.get("/apis/v2beta1/pipelines")["pipelines"]]
        equal(names, ["own"])

    @suite.test
    def the_page_cannot_be_framed():
        assert "frame-ancestors 'none'" in own["headers"]["content-security-policy"], own["headers"]

    @suite.test
    def artifacts_are_saved_and_never_shown():
        headers = own["download"]
        assert headers["content-disposition"].startswith("attachment"), headers
        equal(headers["content-security-policy"], "sandbox")
        equal(headers["x-content-type-options"], "nosniff")

    @suite.test
    def programs_go_on_as_before():
        run = server.get("/apis/v2beta1/runs?page_size=1")["runs"][0]
        equal(server.wait(run["run_id"])["state"], "SUCCEEDED")


def main():
    with suite.guard("the browser"), Server() as server:
        attack = prepare(server)
        before = counts(server)
        declare(server, before, drive(server, attack))
        suite.run()
    suite.close()


if __name__ == "__main__":
    main()
