# python: tools
"""gRPC by reflection alone, gRPC-web by hand, and who may come in by any of the ways."""

import struct

import grpc
from _client import KFP, NOBODY, OWN, SPEC, create, finish, kfp_error, own_error, said
from _harness import Server, Suite, equal
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

suite = Suite()


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
    assert "flumina.runner.v1.SecretService" in listed, listed
    assert not any(name.startswith(("flumina.runner.v1.Workload", "flumina.step")) for name in listed), listed


@suite.test
def a_client_by_reflection_creates_and_watches(server):
    with grpc.insecure_channel(server.address) as channel:
        client = Reflected(channel)
        run = client.call(f"{PIPELINES}.RunService.CreateRun", {"run": {"display_name": "reflected", "pipeline_spec": SPEC}})
        updates = client.call("flumina.pipelines.v1.RunService.WatchRun", {"run_id": run["run_id"]})
        equal(updates[-1]["run"]["state"], "SUCCEEDED")
        create(server, "another")
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
    equal(refused(f"{PIPELINES}.RunService.RetryRun", {"run_id": NOBODY}).code(), grpc.StatusCode.NOT_FOUND)
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


if __name__ == "__main__":
    finish(suite)
