# python: tools
"""Uploads in every form, and a table of what is refused: malformed, inconsistent, too large, hostile."""

import gzip
import io
import json
import socket
import tarfile
import zipfile

import yaml
from _client import KFP, SPEC, finish, predicates, upload, upload_error
from _harness import Suite, equal

suite = Suite()


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


if __name__ == "__main__":
    finish(suite)
