# python: kfp-2.17
"""Conditions, loops, exit handlers and failures, compiled by the SDK here and run by the unmodified client."""

import json
import os
import sys
import tempfile
from typing import Dict, List, NamedTuple

from _flow import Ran, fail, number, read, read_all, score, text, total, write
from _harness import Server, Suite, equal
import kfp
import kfp_server_api
from kfp import dsl
from kfp.dsl import Dataset, PipelineTaskFinalStatus

MANY = 1000
suite = Suite()


# Conditions


@dsl.pipeline(name="gate")
def gate(value: float = 0.84):
    scored = score(value=value)
    with dsl.If(scored.outputs["acc"] > 0.9):
        text(value="deployed")
    told = text(value="told")
    text(value="last").after(told)
    text(value="apart")


def after_the_group(spec):
    """The SDK lets nothing wait for a lone `if`; a document may."""
    spec["root"]["dag"]["tasks"]["text-2"]["dependentTasks"] = ["condition-1"]


@suite.test
def a_false_condition_skips_what_depends_on_it_and_says_why(server, client):
    ran = Ran(server, client, gate, edit=after_the_group).ended("SUCCEEDED")
    equal((ran.state("condition-1"), ran.reason("condition-1")), ("SKIPPED", "CONDITION_FALSE"))
    equal(ran.message("condition-1"), "not run because the condition is false: `acc > 0.9`, acc = 0.84")
    equal((ran.state("text-2"), ran.reason("text-2")), ("SKIPPED", "UPSTREAM_SKIPPED"))
    equal(ran.message("text-2"), "not started because `condition-1` was skipped")
    equal((ran.state("text-3"), ran.state("text-4")), ("SKIPPED", "SUCCEEDED"))
    assert "condition-1/text" not in ran.tasks
    details = client.get_run(ran.id).run_details.task_details
    states = {task.display_name: task.state for task in details}
    equal((states["condition-1"], states["text-2"], states["text-4"]), ("SKIPPED", "SKIPPED", "SUCCEEDED"))


@suite.test
def a_true_condition_runs_the_group_and_what_follows(server, client):
    ran = Ran(server, client, gate, {"value": 0.95}, edit=after_the_group).ended("SUCCEEDED")
    equal((ran.output("condition-1/text"), ran.output("text-2"), ran.output("text-3")), ("deployed", "told", "last"))


@dsl.pipeline(name="branches")
def branches(count: int, word: str = "a", flag: bool = True) -> str:
    counted = number(value=count)
    with dsl.If(counted.output > 10):
        many = text(value="many")
    with dsl.Elif(counted.output >= 3):
        few = text(value="few")
    with dsl.Elif(word == "special"):
        special = text(value="special")
    with dsl.Else():
        none = text(value="none")
    chosen = dsl.OneOf(many.output, few.output, special.output, none.output)
    with dsl.If(flag == True):  # noqa: E712
        with dsl.If(word != "a"):
            text(value="nested")
    return text(value=chosen).output


@suite.test
def one_of_four_branches_gives_its_value_on(server, client):
    expected = [(11, "a", "many", 2), (3, "a", "few", 3), (0, "special", "special", 4), (0, "b", "none", 5)]
    for count, word, value, branch in expected:
        ran = Ran(server, client, branches, {"count": count, "word": word, "flag": word != "b"}).ended("SUCCEEDED")
        equal(ran.run["outputs"]["Output"], value)
        equal(ran.state("condition-branches-1"), "SUCCEEDED")
        states = [ran.state(f"condition-branches-1/condition-{at}") for at in range(2, 6)]
        equal(states, ["SUCCEEDED" if at == branch else "SKIPPED" for at in range(2, 6)])
        equal(ran.state("condition-6"), "SUCCEEDED" if word != "b" else "SKIPPED")
        if word == "special":
            equal(
                ran.message("condition-branches-1/condition-5"),
                "not run because the condition is false: `!(number > 10) && !(number >= 3) && !(word == 'special')`, "
                "number = 0, word = 'special'",
            )
            equal(ran.output("condition-6/condition-7/text-5"), "nested")


@dsl.pipeline(name="one-of-artifacts")
def one_of_artifacts(word: str) -> Dataset:
    with dsl.If(word == "left"):
        left = write(value="from the left")
    with dsl.Else():
        right = write(value="from the right")
    chosen = dsl.OneOf(left.outputs["data"], right.outputs["data"])
    read(data=chosen)
    return chosen


@suite.test
def one_of_two_artifacts_is_read(server, client):
    for word in ("left", "right"):
        ran = Ran(server, client, one_of_artifacts, {"word": word}).ended("SUCCEEDED")
        equal(ran.output("read"), f"from the {word}")
        ids = ran.tasks["condition-branches-1"]["output_artifacts"].popitem()[1]["ids"]
        equal([server.artifact(found)["metadata"]["value"] for found in ids], [f"from the {word}"])


# Loops


@dsl.component
def numbers() -> list:
    return [100, 200]


@dsl.pipeline(name="items")
def items(
    values: List[int] = [5, 6, 7], tables: List[Dict[str, int]] = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
) -> NamedTuple("Sums", [("doc", int), ("given", int), ("made", int), ("fields", int)]):
    with dsl.ParallelFor([{"x": 1, "y": 10}, {"x": 2, "y": 20}]) as item:
        fixed = number(value=item.x)
        number(value=item.y)
    with dsl.ParallelFor(values) as item:
        given = number(value=item)
        text(value=f"<{item}>")
    with dsl.ParallelFor(numbers().output) as item:
        made = number(value=item)
    with dsl.ParallelFor(tables) as item:
        field = number(value=item.b)
    sums = NamedTuple("Sums", [("doc", int), ("given", int), ("made", int), ("fields", int)])
    return sums(
        doc=total(values=dsl.Collected(fixed.output)).output,
        given=total(values=dsl.Collected(given.output)).output,
        made=total(values=dsl.Collected(made.output)).output,
        fields=total(values=dsl.Collected(field.output)).output,
    )


@suite.test
def loops_take_items_from_the_document_parameters_outputs_and_fields(server, client):
    ran = Ran(server, client, items).ended("SUCCEEDED")
    equal(ran.run["outputs"], {"doc": 3, "given": 18, "made": 300, "fields": 6})
    equal([ran.output(f"for-loop-2[{at}]/number-2") for at in (0, 1)], [10, 20])
    equal([ran.output(f"for-loop-3[{at}]/text") for at in (0, 1, 2)], ["<5>", "<6>", "<7>"])
    equal(ran.tasks["for-loop-2"]["kind"], "LOOP")
    iteration, inner = ran.tasks["for-loop-2[1]"], ran.tasks["for-loop-2[1]/number"]
    equal((int(iteration["iteration_index"]), int(inner["iteration_index"])), (1, 1))
    equal(iteration["parent_task_id"], ran.tasks["for-loop-2"]["task_id"])
    equal(iteration["input_parameters"]["pipelinechannel--loop-item-param-1"], {"x": 2, "y": 20})
    details = {task.task_id: task for task in client.get_run(ran.id).run_details.task_details}
    loop = details[ran.tasks["for-loop-2"]["task_id"]]
    children = [details[child.task_id].display_name for child in loop.child_tasks]
    equal(children, ["for-loop-2[0]", "for-loop-2[1]"])


@dsl.component
def join(first: int, second: str) -> str:
    return f"{first}{second}"


@dsl.component
def nested(values: list) -> list:
    assert all(isinstance(inner, list) for inner in values), values
    return values


@dsl.pipeline(name="collected")
def collected(words: list = ["x", "y"]) -> list:
    with dsl.ParallelFor([1, 2, 3]) as outer:
        with dsl.ParallelFor(words) as inner:
            named = join(first=outer, second=inner)
            written = write(value=named.output)
        both = read_all(data=dsl.Collected(written.outputs["data"]))
    read_all(data=dsl.Collected(written.outputs["data"]))
    nested(values=dsl.Collected(both.output))
    return nested(values=dsl.Collected(named.output)).output


@suite.test
def what_nested_loops_put_out_is_gathered_in_order(server, client):
    ran = Ran(server, client, collected).ended("SUCCEEDED")
    expected = [["1x", "1y"], ["2x", "2y"], ["3x", "3y"]]
    equal(ran.run["outputs"]["Output"], expected)
    equal(ran.output("nested"), expected)
    equal(ran.output("read-all-2"), ["1x", "1y", "2x", "2y", "3x", "3y"])


@suite.test
def a_loop_over_nothing_succeeds_with_nothing(server, client):
    ran = Ran(server, client, collected, {"words": []}).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], [[], [], []])
    equal(ran.output("read-all-2"), [])


@dsl.pipeline(name="make-datasets")
def make_datasets(words: List[str]) -> List[Dataset]:
    with dsl.ParallelFor(words) as word:
        written = write(value=word)
    return dsl.Collected(written.outputs["data"])


@dsl.component
def gather(values: List[str]) -> list:
    return values


@dsl.pipeline(name="over-artifacts")
def over_artifacts() -> list:
    made = make_datasets(words=["p", "q", "r"])
    with dsl.ParallelFor(made.output) as data:
        value = read(data=data)
    return gather(values=dsl.Collected(value.output)).output


@suite.test
def a_loop_goes_over_artifacts(server, client):
    ran = Ran(server, client, over_artifacts).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], ["p", "q", "r"])


@dsl.component
def meet(folder: str, name: str) -> int:
    """How many were there at the same time, this one included."""
    import os
    import time

    path = os.path.join(folder, name)
    open(path, "w").close()
    most = 0
    for _ in range(10):
        most = max(most, len(os.listdir(folder)))
        time.sleep(0.02)
    os.remove(path)
    return most


@dsl.pipeline(name="limited")
def limited(folder: str):
    with dsl.ParallelFor(["a", "b", "c", "d", "e"], parallelism=1) as name:
        meet(folder=folder, name=name)


@suite.test
def a_limit_keeps_iterations_apart(server, client):
    with tempfile.TemporaryDirectory() as folder:
        ran = Ran(server, client, limited, {"folder": folder}).ended("SUCCEEDED")
    equal([ran.output(f"for-loop-2[{at}]/meet") for at in range(5)], [1] * 5)
    ends = [ran.tasks[f"for-loop-2[{at}]"]["ended_at"] for at in range(5)]
    equal(ends, sorted(ends))


@dsl.container_component
def square(value: int, result: dsl.OutputPath(int)):
    script = 'printf %s "$(($0 * $0))" >"$1"'
    return dsl.ContainerSpec(image="alpine", command=["sh", "-c", script], args=[value, result])


@dsl.pipeline(name="many")
def many(values: List[int]) -> int:
    with dsl.ParallelFor(values) as value:
        squared = square(value=value)
    return total(values=dsl.Collected(squared.outputs["result"])).output


@suite.test
def a_thousand_iterations_are_gathered(server, client):
    values = list(range(MANY))
    ran = Ran(server, client, many, {"values": values}, seconds=400).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], sum(value * value for value in values))
    equal(ran.input("total", "values"), [value * value for value in values])
    equal(ran.run["task_counts"]["SUCCEEDED"], str(2 * MANY + 3))


@dsl.pipeline(name="conditional-iterations")
def conditional_iterations(threshold: int = 2) -> int:
    with dsl.ParallelFor([1, 2, 3]) as value:
        with dsl.If(value >= threshold):
            kept = number(value=value)
    return total(values=dsl.Collected(kept.output)).output


@suite.test
def iterations_that_were_skipped_leave_no_gap(server, client):
    ran = Ran(server, client, conditional_iterations).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], 5)
    equal(ran.state("for-loop-2[0]/condition-3"), "SKIPPED")
    equal(
        ran.message("for-loop-2[0]/condition-3"),
        "not run because the condition is false: `loop-item-param-1 >= threshold`, loop-item-param-1 = 1, threshold = 2",
    )


# Failures and exit tasks


@dsl.component
def divide(value: int) -> float:
    return 6 / value


@dsl.pipeline(name="failing-iteration")
def failing_iteration():
    with dsl.ParallelFor([3, 0, 2]) as value:
        divided = divide(value=value)
    text(value="after").after(divided)


@suite.test
def a_failed_iteration_fails_the_loop_and_the_others_finish(server, client):
    ran = Ran(server, client, failing_iteration).ended("FAILED")
    states = [ran.state(f"for-loop-2[{at}]") for at in range(3)]
    equal(states, ["SUCCEEDED", "FAILED", "SUCCEEDED"])
    equal((ran.output("for-loop-2[0]/divide"), ran.output("for-loop-2[2]/divide")), (2, 3))
    equal((ran.state("for-loop-2"), ran.reason("text")), ("FAILED", "UPSTREAM_FAILED"))
    equal(ran.run["failed_task_id"], ran.tasks["for-loop-2[1]/divide"]["task_id"])


@dsl.component
def told(note: str, status: PipelineTaskFinalStatus) -> dict:
    return {
        "note": note,
        "state": status.state,
        "task": status.pipeline_task_name,
        "job": status.pipeline_job_resource_name,
        "code": status.error_code,
        "message": status.error_message,
    }


@dsl.pipeline(name="handled")
def handled(broken: bool):
    with dsl.ExitHandler(told(note="at the end"), name="guarded"):
        before = text(value="before")
        with dsl.If(broken == True):  # noqa: E712
            fail(value=before.output)
        text(value="side by side")


@suite.test
def an_exit_task_is_told_how_it_ended(server, client):
    ran = Ran(server, client, handled, {"broken": True}).ended("FAILED")
    found = ran.output("told")
    equal((found["note"], found["state"], found["task"]), ("at the end", "FAILED", "exit-handler-1"))
    equal(found["job"], f"handled-{ran.id}")
    equal(found["code"], 2)
    assert "`exit-handler-1/condition-2/fail` failed" in found["message"], found
    assert "broken on purpose" in found["message"], found
    ran = Ran(server, client, handled, {"broken": False}).ended("SUCCEEDED")
    found = ran.output("told")
    equal((found["state"], found["code"], found["message"]), ("COMPLETE", None, None))


@dsl.component
def clean(value: str = "the default") -> str:
    return value


@dsl.pipeline(name="ignoring")
def ignoring():
    failed = fail()
    cleaned = clean(value=failed.output).ignore_upstream_failure()
    text(value="never").after(cleaned)


@suite.test
def a_task_that_ignores_the_failure_before_it_runs_with_its_default(server, client):
    ran = Ran(server, client, ignoring).ended("FAILED")
    equal((ran.state("clean"), ran.output("clean")), ("SUCCEEDED", "the default"))
    equal(ran.reason("text"), "UPSTREAM_FAILED")


@dsl.pipeline(name="inner-most")
def inner_most(value: int) -> int:
    return number(value=value).output


@dsl.pipeline(name="inner")
def inner(value: int, values: List[int]) -> NamedTuple("Inner", [("one", int), ("sum", int)]):
    with dsl.ParallelFor(values) as item:
        each = inner_most(value=item)
    both = NamedTuple("Inner", [("one", int), ("sum", int)])
    return both(one=inner_most(value=value).output, sum=total(values=dsl.Collected(each.output)).output)


@dsl.pipeline(name="pipelines-in-pipelines")
def pipelines_in_pipelines() -> int:
    task = inner(value=7, values=[1, 2])
    with dsl.If(task.outputs["sum"] == 3):
        inner_most(value=task.outputs["one"])
    return total(values=[task.outputs["one"], task.outputs["sum"]]).output


@suite.test
def pipelines_run_in_loops_and_conditions_of_pipelines(server, client):
    ran = Ran(server, client, pipelines_in_pipelines).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], 10)
    equal(ran.output("inner/for-loop-1[1]/inner-most/number"), 2)
    equal(ran.output("condition-1/inner-most/number"), 7)


# Bad input


@dsl.component
def huge() -> list:
    return [0] * 1_000_000


@dsl.pipeline(name="million")
def million():
    with dsl.ParallelFor(huge().output) as item:
        number(value=item)
    text(value="apart")


@suite.test
def a_million_items_are_a_named_failure(server, client):
    ran = Ran(server, client, million).ended("FAILED")
    equal((ran.state("for-loop-1"), ran.reason("for-loop-1")), ("FAILED", "TOO_MANY_ITEMS"))
    assert "1000000 items" in ran.message("for-loop-1"), ran.message("for-loop-1")
    equal(ran.state("text"), "SUCCEEDED")


@dsl.pipeline(name="given-items")
def given_items(values: list):
    with dsl.ParallelFor(values) as item:
        text(value=item)
    text(value="apart")


def lists_as_text(spec):
    text = json.dumps(spec).replace('"LIST"', '"STRING"')
    spec.clear()
    spec.update(json.loads(text))


@suite.test
def items_may_come_as_json_and_what_is_no_list_is_a_named_failure(server, client):
    ran = Ran(server, client, given_items, {"values": '["a", 2]'}, edit=lists_as_text).ended("SUCCEEDED")
    equal([ran.output(f"for-loop-1[{at}]/text") for at in (0, 1)], ["a", "2"])
    for given in ("seven", '{"a": 1}'):
        ran = Ran(server, client, given_items, {"values": given}, edit=lists_as_text).ended("FAILED")
        equal((ran.state("for-loop-1"), ran.reason("for-loop-1")), ("FAILED", "NO_ITEMS"))
        assert "`for-loop-1`" in ran.message("for-loop-1") and "must be a list" in ran.message("for-loop-1")


def set_condition(condition):
    def edit(spec):
        spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"] = condition

    return edit


@suite.test
def a_condition_without_an_answer_fails_its_task_by_name(server, client):
    cases = [
        ("inputs.parameter_values['pipelinechannel--score-acc']", "must be true or false"),
        ("inputs.parameter_values['absent'] > 1.0", "there is no `absent`"),
        ("inputs.parameter_values['pipelinechannel--score-acc'] > 'a'", "acc"),
    ]
    for condition, words in cases:
        ran = Ran(server, client, gate, edit=set_condition(condition)).ended("FAILED")
        equal((ran.state("condition-1"), ran.reason("condition-1")), ("FAILED", "CONDITION_FAILED"))
        message = ran.message("condition-1")
        assert words in message and "condition-1" in message, message
        equal(ran.state("text-4"), "SUCCEEDED")


def refused(server, client, pipeline, *words, edit=None):
    try:
        Ran(server, client, pipeline, edit=edit)
    except kfp_server_api.ApiException as error:
        equal(error.status, 400, error.body)
        for word in words:
            assert word in error.body, f"{word} is not in {error.body}"
        return
    raise AssertionError(f"{pipeline.name} was not refused")


@suite.test
def a_condition_that_cannot_be_read_is_refused_by_task(server, client):
    for condition in ("a ==", "((((", "true &&", "[1].exists(x, x > 0)", "(" * 5000, "1+" * 5000 + "1"):
        refused(server, client, gate, "tasks.condition-1.triggerPolicy.condition", edit=set_condition(condition))


@dsl.pipeline(name="defect")
def defect():
    with dsl.ExitHandler(text(value="end")):
        with dsl.ParallelFor([{"a": 1}, {"a": 2}]) as item:
            number(value=item.a)


@suite.test
def the_compilers_defect_is_named_by_task_and_input(server, client):
    refused(server, client, defect, "tasks.exit-handler-1.inputs.parameters.pipelinechannel--loop-item-param-2-subvar-a", "lost an item of a loop")


def main():
    with suite.guard("server"), Server() as server:
        client = kfp.Client(host=server.url)
        sys.stdout, out = open(os.devnull, "w"), sys.stdout
        suite.run(server, client, workers=4)
        sys.stdout = out
    suite.close()


main()
