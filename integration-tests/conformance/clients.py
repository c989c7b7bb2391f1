# python: tools
"""The clients under examples/clients, generated from our contracts: each is built and run from a clean folder.

Builds are kept in the cache by their content: the example, the contracts and the tools.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from _harness import ROOT, Server, Suite, environment, equal, flumina

EXAMPLES = ROOT / "examples/clients"
LANGUAGES = ("python", "go", "java", "typescript")
KEPT = 3
UNCACHED = "[pipeline-orchestrator.cache]\nmode = \"off\"\n"
suite = Suite()


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout[-1500:]}"
    return done.stdout


def variables(tools):
    """What the examples' instructions ask for, from the environment file."""
    env = environment()
    protoc = tools / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    folders = [str(tools), *(str(pathlib.Path(env[name]).parent) for name in ("go", "node", "maven", "javac"))]
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    return dict(os.environ, PATH=path, PYTHON=sys.executable)


def sources(folder):
    """The files of an example as git would have them, without what was built beside them."""
    built_here = {"gen", "bin", "dist", "target", "node_modules", "__pycache__", ".venv"}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not built_here & set(path.relative_to(folder).parts):
            yield path


def build(language, protos, env):
    """The folder of a built example: from the cache, or built in a clean one beside it first."""
    digest = hashlib.sha256()
    for root in (EXAMPLES / language, protos):
        for path in sources(root):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for tool in (["go", "version"], ["node", "--version"], ["javac", "-version"], [sys.executable, "--version"]):
        digest.update(run(tool, env=env).encode())
    cache = pathlib.Path(environment()["cache"]) / "clients"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{language}-{digest.hexdigest()[:16]}"
    with open(cache / f"{language}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            clean = pathlib.Path(tempfile.mkdtemp(prefix=f".{language}-", dir=cache))
            try:
                for path in sources(EXAMPLES / language):
                    copy = clean / path.relative_to(EXAMPLES / language)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)
                run([str(clean / "build.sh"), str(protos)], env=env, timeout=400)
                clean.rename(target)
            except BaseException:
                shutil.rmtree(clean, ignore_errors=True)
                raise
        os.utime(target)
        old = sorted(cache.glob(f"{language}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in old[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
    return target


def command(language, folder, server):
    return {
        "python": [sys.executable, "follow.py", "--server", server.address],
        "go": ["bin/follow", "-server", server.address],
        "java": ["java", "-jar", "target/follow.jar", server.address],
        "typescript": ["node", "dist/follow.js", "--server", server.url],
    }[language]


def follow(language, protos, env, servers):
    folder = build(language, protos, env)
    pipeline = str(EXAMPLES / "pipeline.json")
    for server in servers:
        mine = dict(env)
        if server.token:
            mine["FLUMINA_TOKEN"] = server.token
        output = run([*command(language, folder, server), pipeline], cwd=folder, env=mine, timeout=60)
        check(server, output.splitlines())
    # A failing call ends the client with an error.
    refused = subprocess.run(
        [*command(language, folder, servers[1]), pipeline], cwd=folder, env=env, capture_output=True, timeout=60
    )
    assert refused.returncode != 0, "a client without a token went on"


def check(server, lines):
    """The first line names the run, the last says how it ended; each task went through its states in order."""
    run_id = lines[0].split()[1]
    equal(lines[-1], "run SUCCEEDED")
    seen = {}
    for line in lines[1:-1]:
        task, state = line.split()
        seen.setdefault(task, []).append(state)
    order = ["PENDING", "RUNNING", "SUCCEEDED"]
    for task in ("fetch", "count", "report"):
        states = seen[task]
        equal(states, sorted(states, key=order.index), task)
        equal(states[-1], "SUCCEEDED", task)
    run = server.get(f"/apis/flumina.pipelines/v1/runs/{run_id}")
    equal(run["outputs"], {"Output": "3 words"})


@suite.test
def what_python_pins_is_what_the_tests_have(protos, env, servers):
    from importlib.metadata import version

    for line in (EXAMPLES / "python/requirements.txt").read_text().split():
        name, _, pinned = line.partition("==")
        equal(version(name), pinned, name)


@suite.test
def lock_files_name_no_registry(protos, env, servers):
    for path in [*EXAMPLES.rglob("package-lock.json"), ROOT / "integration-tests/requirements/node/package-lock.json"]:
        if "node_modules" not in path.parts:
            assert '"resolved"' not in path.read_text(), path


for _language in LANGUAGES:
    suite.add(f"the client in {_language}", lambda *arguments, language=_language: follow(language, *arguments))


def main():
    with suite.guard("the servers"), tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        protos, tools = folder / "protos", folder / "tools"
        tools.mkdir()
        run([flumina(), "proto", "export", str(protos)])
        # All run the same pipeline, and each is to see its steps run.
        with Server(config=UNCACHED) as plain, Server(token="the-token-of-four-clients", config=UNCACHED) as guarded:
            suite.run(protos, variables(tools), (plain, guarded), workers=2)
    suite.close()


if __name__ == "__main__":
    main()
