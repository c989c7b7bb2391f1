"""Pipelines of our own, written with whichever kfp SDK is installed, and what each must put out."""

from typing import List, NamedTuple, Optional

from _cases import RECENT, case, outputs
from _harness import equal
from kfp import dsl
from kfp.dsl import Artifact, Input, Output


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
    # The last two are equal, so a cache would answer for the third.
    first = stamp(seconds=0.3).set_caching_options(False)
    second = stamp(seconds=0.0).set_caching_options(False).after(first)
    stamp(seconds=0.0).set_caching_options(False).after(first, second)


@case(after_pipeline)
def tasks_wait_for_those_they_come_after(server, run, tasks):
    times = [outputs(tasks[f"{name}"])["Output"].split() for name in ("stamp", "stamp-2", "stamp-3")]
    assert float(times[0][1]) <= float(times[1][0]) and float(times[1][1]) <= float(times[2][0]), times
    equal(tasks["stamp-3"]["dependencies"] and len(tasks["stamp-3"]["dependencies"]), 2)


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
