"""Our own pipelines for the SDK 1.8."""

from typing import NamedTuple

from kfp import dsl
from kfp.components import InputPath, OutputPath, create_component_from_func, func_to_container_op
from kubernetes.client.models import (
    V1ConfigMapEnvSource,
    V1EmptyDirVolumeSource,
    V1EnvFromSource,
    V1EnvVar,
    V1EnvVarSource,
    V1LocalObjectReference,
    V1ObjectFieldSelector,
    V1PodDNSConfig,
    V1SecretEnvSource,
    V1Volume,
    V1VolumeMount,
)

IMAGE = "python:3.7"


@dsl.pipeline(name="two-steps")
def two_steps():
    first = dsl.ContainerOp(
        name="first", image=IMAGE, command=["python", "-c"], arguments=["print('hello from first')"]
    )
    second = dsl.ContainerOp(
        name="second", image=IMAGE, command=["python", "-c"], arguments=["print('hello from second')"]
    )
    second.after(first)


@func_to_container_op
def flip() -> str:
    return "heads"


@func_to_container_op
def show(x):
    print("show", x)


@func_to_container_op
def add(a: int, b: int) -> int:
    return a + b


@dsl.pipeline(name="parameters")
def parameters(a: int = 3, b: int = 4, name: str = "x y"):
    total = add(a, b)
    more = add(total.output, 10)
    show(more.output)
    show(f"hi {name} and {more.output}")


def write_lines(lines_path: OutputPath(str), n: int = 3):
    with open(lines_path, "w") as file:
        file.write("line\n" * n)


def count(lines_path: InputPath()) -> int:
    return len(open(lines_path).readlines())


write_op = create_component_from_func(write_lines)
count_op = create_component_from_func(count)


@dsl.pipeline(name="artifacts")
def artifacts(text: str = "hello\nworld\n"):
    lines = write_op(n=7)
    show(count_op(lines.output).output)
    show(count_op(text).output)
    show(lines.output)


@dsl.pipeline(name="files")
def files():
    path = "/tmp/flumina-conformance-output.txt"
    generated = dsl.ContainerOp(
        name="gen", image="library/bash:4.4.23", command=["sh", "-c"], arguments=[f"echo 42 > {path}"],
        file_outputs={"out": path},
    )
    dsl.ContainerOp(
        name="use", image="library/bash:4.4.23", command=["sh", "-c"], arguments=[f'echo "got {generated.output}"']
    )


@dsl.pipeline(name="conditions")
def conditions(n: int = 5):
    coin = flip()
    with dsl.Condition(coin.output == "heads"):
        show("was heads")
        with dsl.Condition(n > 3):
            show("n big")
        with dsl.Condition(n > 30):
            show("n huge")
    with dsl.Condition(coin.output == "tails"):
        show("was tails")


@dsl.pipeline(name="loops")
def loops(items: list = [1, 2, 3]):
    with dsl.ParallelFor([{"a": 1, "b": 2}, {"a": 10, "b": 20}], parallelism=1) as item:
        show(add(item.a, item.b).output)
        with dsl.ParallelFor(items) as inner:
            show(add(item.a, inner).output)


@func_to_container_op
def letters() -> list:
    return ["x", "y", "z"]


@func_to_container_op
def objects() -> list:
    return [{"k": "p"}, {"k": "q"}]


@dsl.pipeline(name="dynamic-loops")
def dynamic_loops():
    with dsl.ParallelFor(letters().output) as item:
        show(item)
    with dsl.ParallelFor(objects().output) as item:
        show(item.k)


def _exit_op(*arguments):
    program = "import sys; print(*sys.argv[1:])"
    return dsl.ContainerOp(
        name="exit-op", image=IMAGE, command=["python", "-c", program], arguments=list(arguments)
    )


@dsl.pipeline(name="exit-handler")
def exit_handler(n: str = "foo"):
    with dsl.ExitHandler(_exit_op("{{workflow.status}}", n)):
        coin = flip()
        failing = dsl.ContainerOp(
            name="failing", image=IMAGE, command=["python", "-c"], arguments=["raise SystemExit(3)"]
        )
        failing.after(coin)


@dsl.pipeline(name="exit-after-success")
def exit_after_success():
    with dsl.ExitHandler(_exit_op("{{workflow.status}}")):
        flip()


@func_to_container_op
def dec(n) -> int:
    return int(n) - 1


@dsl.graph_component
def countdown(n):
    less = dec(n)
    with dsl.Condition(less.output > 0):
        countdown(less.output)


@dsl.pipeline(name="recursion")
def recursion(n: int = 3):
    show("end").after(countdown(n))


def evaluate() -> NamedTuple("Outputs", [("mlpipeline_metrics", "Metrics"), ("mlpipeline_ui_metadata", "UI_metadata")]):
    import json

    metrics = [
        {"name": "accuracy-score", "numberValue": 0.91, "format": "PERCENTAGE"},
        {"name": "loss", "numberValue": 2, "format": "RAW"},
    ]
    return json.dumps({"metrics": metrics}), json.dumps({"version": 1, "outputs": []})


evaluate_op = create_component_from_func(evaluate)


@dsl.pipeline(name="metrics")
def metrics():
    evaluate_op()


@dsl.pipeline(name="sleeper")
def sleeper():
    dsl.ContainerOp(name="sleep", image=IMAGE, command=["sleep"], arguments=["600"])


def _counting(name, folder, fails):
    """A program that notes each of its attempts in a file, and fails the first ones."""
    program = (
        "import pathlib, sys\n"
        "path, fails = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "with path.open('a') as file: file.write('x')\n"
        "sys.exit(len(path.read_text()) <= fails)\n"
    )
    where = f"{folder}/{name}"
    return dsl.ContainerOp(
        name=name, image=IMAGE, command=["python", "-c", program], arguments=[where, str(fails)]
    )


def _uncached(operation):
    operation.execution_options.caching_strategy.max_cache_staleness = "P0D"
    return operation


@dsl.pipeline(name="retries")
def retries(folder: str):
    _uncached(_counting("third", folder, 2)).set_retry(5)
    _uncached(_counting("paused", folder, 1)).set_retry(2, "OnFailure", "10ms", 2.0, "1s")
    _uncached(_counting("always", folder, 1)).set_retry(1, policy="Always")


@dsl.pipeline(name="retries-end")
def retries_end(folder: str):
    _uncached(_counting("never", folder, 100)).set_retry(2)


@dsl.pipeline(name="repaired")
def repaired(folder: str):
    first = _uncached(_counting("first", folder, 0))
    _uncached(_counting("second", folder, 1)).after(first)


@dsl.pipeline(name="task-timeout")
def task_timeout():
    slow = dsl.ContainerOp(name="slow", image=IMAGE, command=["sleep"], arguments=["600"])
    slow.set_timeout(1)


@dsl.pipeline(name="pipeline-timeout")
def pipeline_timeout():
    dsl.ContainerOp(name="slow", image=IMAGE, command=["sleep"], arguments=["600"])
    dsl.get_pipeline_conf().set_timeout(2)


@dsl.pipeline(name="names")
def names(p: str = "given"):
    text = "{{workflow.name}} {{workflow.uid}} {{workflow.namespace}} {{workflow.parameters.p}} {{workflow.creationTimestamp}}"
    said = dsl.ContainerOp(
        name="said", image=IMAGE, command=["sh", "-c"], arguments=['echo "$0"; echo "$NAMES"', text]
    )
    said.container.add_env_variable(V1EnvVar(name="NAMES", value=text))


@dsl.pipeline(name="constants")
def constants():
    for text in ("one", "two"):
        dsl.ContainerOp(
            name=text, image="alpine", command=["cat", dsl.InputArgumentPath(text, path="/tmp/inputs/text/data", input="text")]
        )


@dsl.pipeline(name="items-of-parameters")
def items_of_parameters(a: str = "x", b: str = 'q"q'):
    with dsl.ParallelFor([{"n": a, "m": "1"}, {"n": b, "m": f"{a}-2"}]) as item:
        show(item.n)
        show(item.m)


def _alone(name, folder):
    """A program that fails when another one of its kind runs at the same time."""
    program = (
        "import os, sys, time\n"
        "os.mkdir(sys.argv[1])\n"
        "time.sleep(0.2)\n"
        "os.rmdir(sys.argv[1])\n"
    )
    return _uncached(
        dsl.ContainerOp(name=name, image=IMAGE, command=["python", "-c", program], arguments=[f"{folder}/alone"])
    )


@dsl.pipeline(name="one-at-a-time")
def one_at_a_time(folder: str):
    for at in range(4):
        _alone(f"alone-{at}", folder)
    dsl.get_pipeline_conf().set_parallelism(1)


@dsl.pipeline(name="one-item-at-a-time")
def one_item_at_a_time(folder: str):
    with dsl.ParallelFor([1, 2, 3], parallelism=1):
        _alone("alone", folder)


def _shell(name, text, **more):
    return dsl.ContainerOp(
        name=name, image="library/bash:4.4.23", command=["sh", "-c"], arguments=[text], **more
    )


@dsl.pipeline(name="volumes")
def volumes(size: str = "1Gi"):
    made = dsl.VolumeOp(name="make", resource_name="shared", size=size, modes=dsl.VOLUME_MODE_RWM)
    left = _shell("left", "echo l > /mnt/left", pvolumes={"/mnt": made.volume})
    right = _shell("right", "echo r > /mnt/right", pvolumes={"/mnt": made.volume})
    both = made.volume.after(left, right)
    read = _shell("read", "cat /mnt/left /mnt/right | tee /mnt/both", pvolumes={"/mnt": both}, file_outputs={"both": "/mnt/both"})
    _shell("say", f"echo '{made.outputs['name']} {made.outputs['size']} {read.output}'")
    made.delete().after(read)


@dsl.pipeline(name="snapshot")
def snapshot():
    made = dsl.VolumeOp(name="make", resource_name="source", size="1Gi")
    taken = dsl.VolumeSnapshotOp(name="take", resource_name="taken", volume=made.volume)
    dsl.VolumeOp(name="copy", resource_name="copy", size="1Gi", data_source=taken.snapshot)


@dsl.pipeline(name="skipped-outputs")
def skipped_outputs(go: str = "no"):
    with dsl.Condition(go == "yes"):
        coin = flip()
    with dsl.Condition(go == "no"):
        show(coin.output)


@dsl.pipeline(name="items-in-conditions")
def items_in_conditions():
    with dsl.ParallelFor(objects().output) as item:
        with dsl.Condition(item.k == "q"):
            show("found q")
    with dsl.ParallelFor([1, 2]) as number:
        with dsl.Condition(number == 2):
            show("found 2")


@dsl.pipeline(name="settings")
def settings(memory: str = "32Mi"):
    told = _shell("told", 'echo "$RUN $TEAM"')
    for name, label in (("RUN", "pipeline/runid"), ("TEAM", "team")):
        field = V1ObjectFieldSelector(field_path=f"metadata.labels['{label}']")
        told.container.add_env_variable(V1EnvVar(name=name, value_from=V1EnvVarSource(field_ref=field)))
    told.add_pod_label("team", "blue").add_node_selector_constraint("pool", memory)
    told.container.set_memory_limit(memory).set_memory_request(memory)
    _uncached(told)


@dsl.pipeline(name="bundles")
def bundles():
    told = _uncached(_shell("told", 'echo "$token $B $C_b $none"'))
    told.container.add_env_variable(V1EnvVar(name="B", value="own"))
    told.container.add_env_from(V1EnvFromSource(secret_ref=V1SecretEnvSource(name="account")))
    prefixed = V1ConfigMapEnvSource(name="settings")
    told.container.add_env_from(V1EnvFromSource(prefix="C_", config_map_ref=prefixed))
    absent = V1SecretEnvSource(name="absent", optional=True)
    told.container.add_env_from(V1EnvFromSource(secret_ref=absent))


@dsl.pipeline(name="bundles-missing")
def bundles_missing():
    lost = _shell("lost", "true")
    lost.container.add_env_from(V1EnvFromSource(secret_ref=V1SecretEnvSource(name="absent")))


@dsl.pipeline(name="told-failures")
def told_failures(fails: str = "yes"):
    program = "import json, sys; print(json.dumps(json.loads(json.loads(sys.argv[1]))))"
    at_end = dsl.ContainerOp(
        name="at-end", image=IMAGE, command=["python", "-c", program], arguments=["{{workflow.failures}}"]
    )
    with dsl.ExitHandler(at_end):
        with dsl.Condition(fails == "yes"):
            _uncached(_shell("breaks", "exit 3"))


@dsl.pipeline(name="whole-run")
def whole_run(a: str = 'q"q', b: int = 2):
    time = " ".join("{{workflow.creationTimestamp.%s}}" % part for part in "YmdHMSs")
    _shell("told", f"echo '{{{{workflow.parameters}}}}'; echo {time}")


@dsl.pipeline(name="configured")
def configured(folder: str):
    for at in range(3):
        _alone(f"alone-{at}", folder).set_retry(2, "OnError", "10ms", 2.0, "1s").set_timeout(60)
    conf = dsl.get_pipeline_conf()
    conf.set_parallelism(1).set_timeout(300).set_ttl_seconds_after_finished(60)
    conf.set_image_pull_secrets([V1LocalObjectReference(name="registry")])
    conf.set_image_pull_policy("Always")
    conf.set_default_pod_node_selector("pool", "any")
    conf.set_pod_disruption_budget(min_available=1)
    conf.set_dns_config(V1PodDNSConfig(nameservers=["1.2.3.4"]))
    conf.add_op_transformer(lambda op: op.add_pod_label("team", "blue"))


@dsl.pipeline(name="shared-memory")
def shared_memory():
    told = _uncached(_shell("told", "test -w /dev/shm && echo shared"))
    told.add_volume(V1Volume(name="shm", empty_dir=V1EmptyDirVolumeSource(medium="Memory")))
    told.container.add_volume_mount(V1VolumeMount(name="shm", mount_path="/dev/shm"))


@dsl.pipeline(name="beside")
def beside():
    _shell("with-sidecar", "true").add_sidecar(dsl.Sidecar("other", "nginx", ["serve"]))
