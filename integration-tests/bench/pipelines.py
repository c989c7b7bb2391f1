"""What a step costs above the same program run bare, and against the SDK's own local runner.

All that is compared runs in this one process's time, in turn, on the same machine.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import control_flow
import harness
import yaml
from kfp import compiler, dsl, local

CORES = os.cpu_count()


@dsl.component
def add_with_pip(a: int, b: int) -> int:
    return a + b


@dsl.component(install_kfp_package=False)
def add(a: int, b: int) -> int:
    return a + b


def pipelines(component):
    """A chain of 5, and 3 parallel chains of 3."""

    @dsl.pipeline(name="chain")
    def chain(start: int = 1):
        value = start
        for _ in range(5):
            value = component(a=value, b=1).set_caching_options(False).output

    @dsl.pipeline(name="chains")
    def chains(start: int = 1):
        for _ in range(3):
            value = start
            for _ in range(3):
                value = component(a=value, b=1).set_caching_options(False).output

    return {"chain of 5": (chain, [5]), "3 chains of 3": (chains, [3, 3, 3])}


def compiled(pipeline):
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        compiler.Compiler().compile(pipeline, file.name)
        return yaml.safe_load(open(file.name))


def replay(server, run_id):
    """The interpreter and environment in which a step of a run ran."""
    task = next(task for task in server.tasks(run_id) if task["kind"] == "CONTAINER")
    path = f"/apis/flumina.pipelines/v1/runs/{run_id}/tasks/{task['task_id']}:replay"
    return server.get(path)["workload"]["assignment"]


class Direct:
    """The same functions by plain calls of the kfp executor in the environment that the server uses."""

    def __init__(self, assignment):
        self.python = assignment["python"]
        self.env = {entry["name"]: entry.get("value", "") for entry in assignment.get("env", [])}
        self.env["_KFP_RUNTIME"] = "true"
        self.dir = tempfile.mkdtemp(prefix="flumina-direct-")
        self.module = os.path.join(self.dir, "ephemeral_component.py")
        source = assignment["step"]["python_function"]["source"]
        with open(self.module, "w") as file:
            file.write(source)
        self.function = assignment["step"]["python_function"]["function"]
        self.numbers = iter(range(1_000_000))

    def call(self, number, value):
        folder = os.path.join(self.dir, str(number))
        os.makedirs(folder)
        output = os.path.join(folder, "output.json")
        executor_input = {
            "inputs": {"parameterValues": {"a": value, "b": 1}},
            "outputs": {
                "parameters": {"Output": {"outputFile": os.path.join(folder, "Output")}},
                "outputFile": output,
            },
        }
        command = [self.python, "-m", "kfp.dsl.executor_main"]
        command += ["--component_module_path", self.module]
        command += ["--executor_input", json.dumps(executor_input)]
        command += ["--function_to_execute", self.function]
        subprocess.run(
            command,
            env=self.env,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with open(output) as file:
            return json.load(file)["parameterValues"]["Output"]

    def chains(self, lengths):
        """Wall time of chains, as many at a time as there are cores."""
        lock = threading.Lock()

        def chain(length):
            value = 1
            for _ in range(length):
                with lock:
                    number = next(self.numbers)
                value = self.call(number, value)
            assert value == 1 + length, value

        begun = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
            list(pool.map(chain, lengths))
        return time.perf_counter() - begun

    def close(self):
        shutil.rmtree(self.dir)


def sdk_local(pipeline):
    """Wall time of the SDK's own runner, in this interpreter's environment."""
    root = tempfile.mkdtemp(prefix="flumina-local-")
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    quiet = os.open(os.devnull, os.O_WRONLY)
    saved = os.dup(1), os.dup(2)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    try:
        begun = time.perf_counter()
        pipeline()
        return time.perf_counter() - begun
    finally:
        os.dup2(saved[0], 1), os.dup2(saved[1], 2)
        for fd in (quiet, *saved):
            os.close(fd)
        shutil.rmtree(root)


def fan(count):
    """A pipeline of trivial shell steps that do not wait for each other."""
    tasks = {}
    for number in range(count):
        name = f"step-{number}"
        tasks[name] = {"taskInfo": {"name": name}, "componentRef": {"name": "comp-step"}}
    return {
        "pipelineInfo": {"name": f"fan-{count}"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "root": {"dag": {"tasks": tasks}},
        "components": {"comp-step": {"executorLabel": "exec-step"}},
        "deploymentSpec": {
            "executors": {
                "exec-step": {"container": {"image": "alpine", "command": ["sh", "-c", "echo done"]}}
            }
        },
    }


def bare(count):
    """Wall time of the same commands, as many at a time as there are cores, by a program that does nothing else."""
    numbers = "\n".join(str(number) for number in range(count))
    begun = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(CORES), "-n", "1", "sh", "-c", "echo done"],
        input=numbers.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begun


def timed(server, spec, name):
    """Wall time as a client sees it, from the request to the news that the run has ended."""
    begun = time.perf_counter()
    server.wait(server.submit(spec, name))
    return time.perf_counter() - begun


def measure_components(server, record, repeat):
    for name, component in (("default pip line", add_with_pip), ("no pip line", add)):
        for shape, (pipeline, lengths) in pipelines(component).items():
            steps = sum(lengths)
            spec = compiled(pipeline)
            warm = server.submit(spec, "warm")
            server.wait(warm)
            direct = Direct(replay(server, warm))
            ours, plain, sdk = [], [], []
            for _ in range(repeat):
                ours.append(timed(server, spec, shape))
                plain.append(direct.chains(lengths))
                sdk.append(sdk_local(pipeline))
            direct.close()
            middle = [harness.spread(values)["median"] for values in (ours, plain, sdk)]
            raw = {"flumina": ours, "direct": plain, "kfp.local": sdk}
            above = (middle[0] - middle[1]) / steps * 1000
            record.figure(f"{shape}, {name}: above direct calls", above, "ms a step", 30.0, raw)
            bar = 0.15 if component is add_with_pip else 1.25
            record.figure(f"{shape}, {name}: of kfp.local", middle[0] / middle[2], "ratio", bar, raw)


def measure_fans(server, record, repeat):
    cost = {}
    for count in (100, 1000):
        ours, plain = [], []
        for _ in range(repeat):
            ours.append(timed(server, fan(count), f"fan {count}"))
            plain.append(bare(count))
        middle = [harness.spread(values)["median"] for values in (ours, plain)]
        cost[count] = (middle[0] - middle[1]) / count * 1000
        raw = {"flumina": ours, "bare": plain}
        bar = 7.5 if count == 100 else 1.3 * cost[100]
        record.figure(f"fan of {count}: above bare commands", cost[count], "ms a step", bar, raw)


def measure_edit(server, record, repeat):
    """One function of six steps is edited; the five before it are taken from the cache."""

    @dsl.pipeline(name="edited")
    def edited(start: int = 1):
        value = start
        for _ in range(6):
            value = add_with_pip(a=value, b=1).output

    spec = compiled(edited)
    server.wait(server.submit(spec, "before"))
    executors = spec["deploymentSpec"]["executors"]
    before = json.dumps(executors["exec-add-with-pip-6"])
    assert "return a + b" in before
    took = []
    for number in range(repeat):
        executors["exec-add-with-pip-6"] = json.loads(before.replace("return a + b", f"return a + b + {number + 1}"))
        begun = time.perf_counter()
        run = server.submit(spec, f"edit {number}")
        server.wait(run)
        took.append(time.perf_counter() - begun)
        states = sorted(task["state"] for task in server.tasks(run) if task["kind"] == "CONTAINER")
        assert states == ["CACHED"] * 5 + ["SUCCEEDED"], states
    record.figure("edit to result, 5 of 6 steps cached", harness.spread(took)["median"], "s", 2.0, took)


def main():
    args = harness.arguments("pipelines")
    record = harness.Record("pipelines", args)
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    with harness.Server(args.flumina) as server:
        measure_fans(server, record, 1 if args.quick else 5)
        control_flow.measure(server, record, 1 if args.quick else 5, timed, bare)
        measure_edit(server, record, 2 if args.quick else 5)
        measure_components(server, record, 1 if args.quick else 5)
    record.write()


main()
