"""Pipelines of our own, written with whichever kfp SDK is installed, and what each must put out.

`CASES` holds, per pipeline, the arguments and a function that looks at the values of a finished run.
"""

from typing import List, NamedTuple, Optional

from _harness import equal
from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

# Components run as processes of this machine; the name of the image only picks the interpreter.
SHELL = "alpine:3.20"

# Older SDKs know neither custom paths nor outputs of tasks within lists and tables.
RECENT = hasattr(Artifact, "custom_path")

CASES = {}


def case(pipeline, arguments=None, state="SUCCEEDED"):
    def register(check):
        CASES[check.__name__] = (pipeline, arguments or {}, state, check)
        return check

    return register


def outputs(task):
    return task.get("output_parameters", {})


def artifacts(server, task, name):
    return [server.artifact(found) for found in task["output_artifacts"][name]["ids"]]


# --- Parameters -----------------------------------------------------------------------------------------------------


@dsl.component
def every_type(
    text: str, whole: int, real: float, flag: bool, items: list, table: dict, more: List[int] = [4, 5]
) -> NamedTuple(
    "Echo", [("text", str), ("whole", int), ("real", float), ("flag", bool), ("items", list), ("table", dict), ("types", str)]
):
    from collections import namedtuple

    types = ",".join(type(value).__name__ for value in (text, whole, real, flag, items, table, more))
    echo = namedtuple("Echo", ["text", "whole", "real", "flag", "items", "table", "types"])
    return echo(text, whole + 1, real * 2, not flag, items + more, dict(table, seen=True), types)


@dsl.pipeline(name="every-type")
def every_type_pipeline(
    text: str,
    whole: int = 41,
    real: float = 0.25,
    flag: bool = False,
    items: list = [1, "two", 3.5],
    table: dict = {"a": {"b": [1.5]}},
):
    every_type(text=text, whole=whole, real=real, flag=flag, items=items, table=table)


@case(every_type_pipeline, {"text": "naïve \"quotes\" $HOME\n{{x}}", "flag": True})
def parameters_of_every_type_and_defaults(server, run, tasks):
    found = outputs(tasks["every-type"])
    equal(found["text"], "naïve \"quotes\" $HOME\n{{x}}")
    equal((found["whole"], found["real"], found["flag"]), (42, 0.5, False))
    equal(found["items"], [1, "two", 3.5, 4, 5])
    equal(found["table"], {"a": {"b": [1.5]}, "seen": True})
    equal(found["types"], "str,int,float,bool,list,dict,list")
    equal(run["parameters"]["whole"], 41)


@case(
    every_type_pipeline,
    {"text": "", "whole": -9007199254740991, "real": 1e-9, "items": [None], "table": {}},
)
def parameters_at_their_edges(server, run, tasks):
    found = outputs(tasks["every-type"])
    equal(found["text"], "")
    equal(int(found["whole"]), -9007199254740990)
    equal(found["real"], 2e-9)
    equal((found["items"], found["table"]), ([None, 4, 5], {"seen": True}))


@dsl.component
def optional(first: Optional[str] = None, second: Optional[int] = None, third: str = "fallback") -> str:
    return repr((first, second, third))


@dsl.pipeline(name="optional")
def optional_pipeline(given: Optional[str] = None, absent: Optional[int] = None):
    optional(first=given, second=absent).set_display_name("through")
    optional(third="own").set_display_name("bare")


@case(optional_pipeline, {"given": "here"})
def optional_inputs(server, run, tasks):
    equal(outputs(tasks["optional"])["Output"], "('here', None, 'fallback')")
    equal(outputs(tasks["optional-2"])["Output"], "(None, None, 'own')")


@dsl.component
def constant(value: int) -> int:
    return value


@dsl.component
def say(text: str) -> str:
    return text


@dsl.pipeline(name="f-strings")
def f_string_pipeline(name: str = "x", count: int = 3):
    made = constant(value=count)
    say(text=f"{name}-{made.output}/{count}")


@case(f_string_pipeline, {"name": "run"})
def f_strings(server, run, tasks):
    equal(outputs(tasks["say"])["Output"], "run-3/3")


if RECENT:

    @dsl.component
    def words(items: list, table: dict) -> str:
        import json

        return json.dumps([items, table], sort_keys=True)

    @dsl.pipeline(name="values-within-values")
    def values_within_pipeline(name: str = "x", count: int = 3):
        made = constant(value=count)
        words(
            items=["plain", made.output, f"<{made.output}{name}>"],
            table={"key": f"{name}={made.output}", "deep": [{"count": count}]},
        )

    @case(values_within_pipeline, {"name": "run"})
    def values_within_lists_and_tables(server, run, tasks):
        equal(
            outputs(tasks["words"])["Output"],
            '[["plain", 3, "<3run>"], {"deep": [{"count": 3}], "key": "run=3"}]',
        )


@dsl.component
def length(text: str) -> NamedTuple("Sizes", [("size", int), ("ends", str), ("copy", str)]):
    from collections import namedtuple

    return namedtuple("Sizes", ["size", "ends", "copy"])(len(text), text[:2] + text[-2:], text)


@dsl.pipeline(name="large-input")
def large_pipeline(text: str):
    first = length(text=text)
    length(text=first.outputs["copy"])


@case(large_pipeline, {"text": "<<" + "x" * 1_000_000 + ">>"})
def a_large_input_through_lightweight_components(server, run, tasks):
    for name in ("length", "length-2"):
        found = outputs(tasks[f"{name}"])
        equal((found["size"], found["ends"]), (1_000_004, "<<>>"), name)


# --- Artifacts ------------------------------------------------------------------------------------------------------


@dsl.component
def make_data(rows: int, data: Output[Dataset], folder: Output[Artifact]):
    import os

    with open(data.path, "w") as file:
        file.write("".join(f"{row},{row * row}\n" for row in range(rows)))
    data.metadata["rows"] = rows
    data.metadata["nested"] = {"unit": "m", "sizes": [1, 2]}
    os.makedirs(os.path.join(folder.path, "sub"))
    for name in ("a.txt", "sub/b.txt"):
        with open(os.path.join(folder.path, name), "w") as file:
            file.write(name)


@dsl.component
def fit(data: Input[Dataset], folder: Input[Artifact], model: Output[Model], metrics: Output[Metrics],
        curves: Output[ClassificationMetrics]) -> float:
    import os

    with open(data.path) as file:
        total = sum(int(line.split(",")[1]) for line in file)
    with open(model.path, "w") as file:
        file.write(str(total))
    model.metadata["framework"] = "sums"
    model.metadata["seen"] = data.metadata["rows"]
    metrics.log_metric("total", total)
    metrics.log_metric("files", sum(len(files) for _, _, files in os.walk(folder.path)))
    curves.log_confusion_matrix(["no", "yes"], [[3, 1], [0, 4]])
    curves.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.9, 1.0], [1.0, 0.5, 0.0])
    return total / 2


@dsl.component
def read_model(model: Input[Model]) -> str:
    with open(model.path) as file:
        return f"{type(model).__name__} {file.read()} {model.metadata['framework']} {model.metadata['seen']}"


@dsl.pipeline(name="artifacts")
def artifact_pipeline(rows: int = 5):
    data = make_data(rows=rows)
    fitted = fit(data=data.outputs["data"], folder=data.outputs["folder"])
    read_model(model=fitted.outputs["model"])


@case(artifact_pipeline)
def artifacts_of_every_kind(server, run, tasks):
    equal(outputs(tasks["fit"])["Output"], 15)
    equal(outputs(tasks["read-model"])["Output"], "Model 30 sums 5")
    [data] = artifacts(server, tasks["make-data"], "data")
    equal(data["type"], "system.Dataset")
    equal(data["metadata"]["rows"], 5)
    equal(data["metadata"]["nested"], {"unit": "m", "sizes": [1, 2]})
    equal(int(data["size_bytes"]), len("0,0\n1,1\n2,4\n3,9\n4,16\n"))
    [folder] = artifacts(server, tasks["make-data"], "folder")
    assert folder["directory"], folder
    files = server.get(f"/apis/flumina.pipelines/v1/artifacts/{folder['artifact_id']}/files")
    equal([file["path"] for file in files["files"]], ["a.txt", "sub/b.txt"])
    [metrics] = artifacts(server, tasks["fit"], "metrics")
    equal((metrics["type"], metrics["metadata"]["total"], metrics["metadata"]["files"]), ("system.Metrics", 30, 2))
    [curves] = artifacts(server, tasks["fit"], "curves")
    equal(curves["type"], "system.ClassificationMetrics")
    rows = curves["metadata"]["confusionMatrix"]["rows"]
    rows = rows if isinstance(rows, list) else rows["rows"]
    equal([row["row"] for row in rows], [[3, 1], [0, 4]])
    equal(len(curves["metadata"]["confidenceMetrics"]), 3)
    task = tasks["make-data"]["task_id"]
    for version in ("v1beta1", "v2beta1"):
        read = server.get(f"/apis/{version}/runs/{run['run_id']}/nodes/{task}/artifacts/data:read")
        equal(read["data"], "MCwwCjEsMQoyLDQKMyw5CjQsMTYK")
    # What the public API says is the same.
    kfp = server.get(f"/apis/v2beta1/runs/{run['run_id']}")
    details = {task["display_name"]: task for task in kfp["run_details"]["task_details"]}
    equal(details["make-data"]["outputs"]["data"]["artifact_ids"], [data["artifact_id"]])
    equal(details["fit"]["inputs"]["data"]["artifact_ids"], [data["artifact_id"]])


if RECENT:

    @dsl.component
    def elsewhere(model: Output[Model]) -> str:
        import os
        import tempfile

        model.custom_path = os.path.join(tempfile.mkdtemp(), "model.bin")
        with open(model.custom_path, "w") as file:
            file.write("weights")
        return model.custom_path

    @dsl.component
    def read_text(model: Input[Model]) -> str:
        with open(model.path) as file:
            return file.read()

    @dsl.pipeline(name="custom-path")
    def custom_path_pipeline():
        read_text(model=elsewhere().outputs["model"])

    @case(custom_path_pipeline)
    def an_artifact_at_a_custom_path(server, run, tasks):
        equal(outputs(tasks["read-text"])["Output"], "weights")
        [model] = artifacts(server, tasks["elsewhere"], "model")
        assert model["present"], model
        equal(int(model["size_bytes"]), 7)


@dsl.component
def read_table(table: Input[Dataset]) -> str:
    with open(table.path) as file:
        return f"{file.read().strip()} {table.metadata['source']} {table.metadata['year']}"


@dsl.pipeline(name="importer")
def importer_pipeline(uri: str):
    imported = dsl.importer(
        artifact_uri=uri, artifact_class=Dataset, reimport=False, metadata={"source": "field", "year": 1998}
    )
    read_table(table=imported.output)


def importer_arguments(folder):
    file = folder / "table.csv"
    file.write_text("1,2,3\n")
    return {"uri": str(file)}


@case(importer_pipeline, importer_arguments)
def an_imported_artifact(server, run, tasks):
    equal(outputs(tasks["read-table"])["Output"], "1,2,3 field 1998")
    [table] = artifacts(server, tasks["importer"], "artifact")
    equal((table["type"], table["uri"]), ("system.Dataset", run["parameters"]["uri"]))


# --- Structure ------------------------------------------------------------------------------------------------------


@dsl.component
def add(a: int, b: int) -> int:
    return a + b


@dsl.component
def write(text: str, note: Output[Artifact]):
    with open(note.path, "w") as file:
        file.write(text)


@dsl.component
def read(note: Input[Artifact]) -> str:
    with open(note.path) as file:
        return file.read()


@dsl.pipeline(name="innermost")
def innermost(start: int) -> NamedTuple("Both", [("total", int), ("note", Artifact)]):
    from collections import namedtuple

    total = add(a=start, b=10)
    note = write(text=f"from {start}")
    return namedtuple("Both", ["total", "note"])(total.output, note.outputs["note"])


@dsl.pipeline(name="inner")
def inner(start: int = 5) -> NamedTuple("Both", [("total", int), ("note", Artifact)]):
    from collections import namedtuple

    deeper = innermost(start=start)
    total = add(a=deeper.outputs["total"], b=100)
    return namedtuple("Both", ["total", "note"])(total.output, deeper.outputs["note"])


@dsl.pipeline(name="outer")
def nested_pipeline(start: int = 1) -> int:
    given = inner(start=start)
    fallback = inner()
    read(note=given.outputs["note"])
    return add(a=given.outputs["total"], b=fallback.outputs["total"]).output


@case(nested_pipeline)
def nested_pipelines(server, run, tasks):
    equal(outputs(tasks["inner/innermost/add"])["Output"], 11)
    equal(outputs(tasks["inner"])["total"], 111)
    equal(outputs(tasks["inner-2"])["total"], 115)
    equal(outputs(tasks["read"])["Output"], "from 1")
    equal(run["outputs"], {"Output": 226})
    equal(tasks["inner/innermost"]["kind"], "DAG")


@dsl.component
def stamp(seconds: float) -> str:
    import time

    begin = time.time()
    time.sleep(seconds)
    return f"{begin} {time.time()}"


@dsl.pipeline(name="after")
def after_pipeline():
    first = stamp(seconds=0.3)
    second = stamp(seconds=0.0).after(first)
    stamp(seconds=0.0).after(first, second)


@case(after_pipeline)
def tasks_wait_for_those_they_come_after(server, run, tasks):
    times = [outputs(tasks[f"{name}"])["Output"].split() for name in ("stamp", "stamp-2", "stamp-3")]
    assert float(times[0][1]) <= float(times[1][0]) and float(times[1][1]) <= float(times[2][0]), times
    equal(tasks["stamp-3"]["dependencies"] and len(tasks["stamp-3"]["dependencies"]), 2)


# --- Containers -----------------------------------------------------------------------------------------------------


@dsl.container_component
def produce(text: str, data: Output[Dataset], size: dsl.OutputPath(int), words: dsl.OutputPath(list)):
    return dsl.ContainerSpec(
        image=SHELL,
        command=["sh", "-c", 'printf %s "$0" >"$1"; printf " %s\\n" "${#0}" >"$2"; printf \'["a", 1]\' >"$3"'],
        args=[text, data.path, size, words],
    )


@dsl.container_component
def placeholders(
    out: dsl.OutputPath(str),
    data: Input[Dataset],
    text: str,
    whole: int,
    real: float,
    flag: bool,
    items: list,
    table: dict,
    given: Optional[str] = None,
    absent: Optional[str] = None,
):
    return dsl.ContainerSpec(
        image=SHELL,
        command=["sh", "-c", 'out=$1; shift; printf "%s\\n" "$@" >"$out"; cat "$DATA" >>"$out"', "step"],
        args=[
            out,
            f"text={text}",
            whole,
            real,
            flag,
            items,
            table,
            dsl.ConcatPlaceholder(["--", "text", "=", text, "!"]),
            dsl.IfPresentPlaceholder(input_name="given", then=["--given", given], else_=["--not-given"]),
            dsl.IfPresentPlaceholder(input_name="absent", then=["--absent", absent], else_=["--not-absent"]),
            dsl.ConcatPlaceholder(["x", dsl.IfPresentPlaceholder(input_name="given", then=given, else_="none")]),
            data.uri,
            data.path,
            dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
        ],
    )


@dsl.container_component
def metadata_placeholders(data: Input[Dataset], name: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image=SHELL, command=["sh", "-c", 'printf %s "$1" >"$0"'], args=[name, data.metadata["colour"]]
    )


@dsl.component
def coloured(data: Output[Dataset]):
    data.metadata["colour"] = "teal"
    with open(data.path, "w") as file:
        file.write("x")


@dsl.pipeline(name="containers")
def container_pipeline(text: str = "it's \"ok\""):
    made = produce(text=text)
    seen = placeholders(
        data=made.outputs["data"],
        text=text,
        whole=made.outputs["size"],
        real=2.5,
        flag=True,
        items=made.outputs["words"],
        table={"k": [1, {"z": "y"}]},
        given="yes",
    )
    seen.set_env_variable("UNUSED", "1")
    seen.set_env_variable("DATA", "/dev/null")
    metadata_placeholders(data=coloured().outputs["data"])


@case(container_pipeline)
def containers_and_their_placeholders(server, run, tasks):
    made = tasks["produce"]
    equal(outputs(made), {"size": 9, "words": ["a", 1]})
    [data] = artifacts(server, made, "data")
    lines = outputs(tasks["placeholders"])["out"].rstrip("\n").split("\n")
    text = "it's \"ok\""
    import json

    equal(lines[:5], [f"text={text}", "9", "2.5", "true", '["a",1]'])
    equal(json.loads(lines[5]), {"k": [1, {"z": "y"}]})
    equal(lines[6:11], [f"--text={text}!", "--given", "yes", "--not-absent", "xyes"])
    equal(lines[11:15], [data["uri"], data["uri"], run["run_id"], "placeholders"])
    equal(outputs(tasks["metadata-placeholders"])["name"], "teal")


@dsl.component
def surroundings() -> str:
    import os

    return f"{os.environ['GREETING']}|{os.environ['EMPTY']}|{os.environ.get('FLUMINA_TOKEN')}|{os.getcwd() != '/'}"


@dsl.pipeline(name="settings")
def settings_pipeline(cpu: str = "500m"):
    task = surroundings()
    task.set_env_variable("GREETING", "héllo $HOME '\"").set_env_variable("EMPTY", "")
    task.set_cpu_request("100m").set_cpu_limit("1").set_memory_request("64M").set_memory_limit("2G")
    task.set_display_name("what is around").set_caching_options(False)


@case(settings_pipeline)
def variables_and_resources(server, run, tasks):
    task = tasks["surroundings"]
    equal(outputs(task)["Output"], "héllo $HOME '\"||None|True")
    [attempt] = task["attempts"]
    assert int(attempt["peak_memory_bytes"]) > 1 << 20, attempt
    assert int(attempt["cpu_us"]) > 1000, attempt


@dsl.container_component
def echo(text: str):
    return dsl.ContainerSpec(image=SHELL, command=["echo"], args=[text])


@dsl.pipeline(name="argument-too-large")
def too_large_pipeline(text: str):
    echo(text=text)


@case(too_large_pipeline, {"text": "x" * 1_000_000}, state="FAILED")
def an_argument_too_large_for_exec(server, run, tasks):
    task = tasks["echo"]
    equal(task["reason"], "ARGUMENT_TOO_LARGE")
    assert "argument" in task["message"] and len(task["message"]) < 2000, task["message"]
    assert "echo" in run["message"], run["message"]


# --- Failures -------------------------------------------------------------------------------------------------------


@dsl.component
def divide(a: int, b: int) -> float:
    def inner_frame():
        return a / b

    print("about to divide", flush=True)
    return inner_frame()


@dsl.pipeline(name="failing")
def failing_pipeline(b: int = 0):
    bad = divide(a=1, b=b)
    constant(value=1).after(bad)
    constant(value=2)


@case(failing_pipeline, state="FAILED")
def a_failing_step(server, run, tasks):
    task = tasks["divide"]
    equal((task["state"], task["reason"]), ("FAILED", "PROGRAM_FAILED"))
    equal(task["attempts"][0]["exit_code"], 1)
    equal(run["failed_task_id"], task["task_id"])
    for text in (task["message"], run["message"]):
        assert "ZeroDivisionError: division by zero" in text, text
    assert "divide" in run["message"], run["message"]
    # The user's own frames, not the SDK's, and the log in full.
    log = server.call(
        "GET", f"/apis/v1alpha1/runs/{run['run_id']}/nodes/{task['task_id']}/log", raw=True
    )[1].decode()
    assert "about to divide" in log and "in inner_frame" in log and "return a / b" in log, log
    assert tasks["constant"]["state"] in ("SKIPPED", "CANCELED"), tasks["constant"]
    kfp = server.get(f"/apis/v2beta1/runs/{run['run_id']}")
    assert "ZeroDivisionError" in kfp["error"]["message"], kfp["error"]


# --- Packages -------------------------------------------------------------------------------------------------------


@dsl.component(packages_to_install=["iniconfig==2.0.0"])
def with_package() -> str:
    from importlib.metadata import version

    import iniconfig

    return f"{version('iniconfig')} {iniconfig.__name__}"


@dsl.component
def without_package() -> str:
    try:
        import iniconfig  # noqa: F401
    except ImportError:
        return "absent"
    return "present"


@dsl.component(install_kfp_package=False)
def bare() -> str:
    import kfp

    return kfp.__name__


@dsl.pipeline(name="packages")
def package_pipeline():
    with_package()
    without_package()
    bare()


@case(package_pipeline)
def packages(server, run, tasks):
    equal(outputs(tasks["with-package"])["Output"], "2.0.0 iniconfig")
    equal(outputs(tasks["without-package"])["Output"], "absent")
    equal(outputs(tasks["bare"])["Output"], "kfp")


# --- What is refused ------------------------------------------------------------------------------------------------

REFUSED = {}


def refused(task, what):
    def register(pipeline):
        REFUSED[pipeline.name] = (pipeline, task, what)
        return pipeline

    return register


@refused("condition-1", "triggerPolicy.condition")
@dsl.pipeline(name="refused-if")
def refused_if(flag: bool = True):
    with dsl.If(flag == True):  # noqa: E712: compared by the SDK
        constant(value=1)


@refused("for-loop-", "parameterIterator")
@dsl.pipeline(name="refused-loop")
def refused_loop():
    with dsl.ParallelFor([1, 2]) as item:
        constant(value=item)


@refused("constant", "retryPolicy")
@dsl.pipeline(name="refused-retry")
def refused_retry():
    constant(value=1).set_retry(num_retries=2)


@refused("constant", "triggerPolicy.strategy")
@dsl.pipeline(name="refused-exit")
def refused_exit():
    with dsl.ExitHandler(constant(value=0)):
        constant(value=1)


@dsl.component
def told(status: dsl.PipelineTaskFinalStatus) -> str:
    return status.state


@refused("told", "taskFinalStatus")
@dsl.pipeline(name="refused-final-status")
def refused_final_status():
    with dsl.ExitHandler(told()):
        constant(value=1)


@dsl.pipeline(name="refused-deep-inner")
def refused_deep_inner(flag: bool = True):
    with dsl.If(flag == True):  # noqa: E712
        constant(value=1)


@refused("condition-1", "comp-refused-deep-inner")
@dsl.pipeline(name="refused-deep")
def refused_deep():
    refused_deep_inner()


