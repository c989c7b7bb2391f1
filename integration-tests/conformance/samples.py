# python: kfp-2.17
"""Shapes that the SDK compiles and that are easy to overlook: outputs of another type than declared, statuses of nobody."""

import os
import sys
from typing import List

from _flow import Ran, fail, number, text, total
from _harness import Server, Suite, equal
import kfp
import kfp_server_api
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output, PipelineTaskFinalStatus

suite = Suite()


@dsl.component
def tell(status: PipelineTaskFinalStatus) -> str:
    return f"{status.state} {status.pipeline_task_name} {status.error_code}"


@suite.test
def a_component_that_wants_a_final_status_runs_by_itself(server, client):
    ran = Ran(server, client, tell).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], "None None None")
    ran = Ran(server, client, tell, {"status": {"state": "COMPLETE", "pipelineTaskName": "a"}}).ended("SUCCEEDED")
    equal(ran.run["outputs"]["Output"], "COMPLETE a None")


@dsl.component
def state_of(status: dict) -> str:
    return status["state"]


@dsl.pipeline(name="notify")
def notify(status: PipelineTaskFinalStatus):
    state = state_of(status=status)
    with dsl.If(state.output == "FAILED"):
        text(value="something failed")
    with dsl.If(state.output == "COMPLETE"):
        text(value="all is well")


@dsl.pipeline(name="pipeline-as-exit-task")
def exit_pipeline(broken: bool):
    with dsl.ExitHandler(notify(), name="work"):
        text(value="work")
        with dsl.If(broken == True):  # noqa: E712
            fail()


@suite.test
def a_pipeline_is_an_exit_task(server, client):
    ran = Ran(server, client, exit_pipeline, {"broken": True}).ended("FAILED")
    equal(ran.output("notify/condition-1/text"), "something failed")
    equal((ran.state("notify"), ran.state("notify/condition-2")), ("SUCCEEDED", "SKIPPED"))
    ran = Ran(server, client, exit_pipeline, {"broken": False}).ended("SUCCEEDED")
    equal(ran.output("notify/condition-2/text-2"), "all is well")
    equal(ran.state("notify/condition-1"), "SKIPPED")


@dsl.pipeline(name="collected-over-a-condition")
def over_condition(threshold: int = 2) -> List[int]:
    with dsl.ParallelFor([1, 2, 3]) as value:
        with dsl.If(value >= threshold):
            kept = number(value=value)
    with dsl.If(threshold == 2):
        summed = total(values=dsl.Collected(kept.output))
    return dsl.Collected(summed.output)


@suite.test
def what_is_collected_from_a_condition_alone_is_its_value(server, client):
    ran = Ran(server, client, over_condition).ended("SUCCEEDED")
    equal(ran.input("condition-4/total", "values"), [2, 3])
    # The compiler declares a list, but no loop is there to gather one.
    equal(ran.run["outputs"]["Output"], 5)


@dsl.component
def model(out: Output[Model]):
    with open(out.path, "w") as file:
        file.write("weights")


@dsl.pipeline(name="values-only", pipeline_root="s3://of-somebody-else/x")
def values_only():
    text(value="nothing is put there")


@dsl.pipeline(name="a-model", pipeline_root="s3://of-somebody-else/x")
def a_model():
    model()


@suite.test
def a_root_of_somebody_else_matters_only_to_artifacts(server, client):
    ran = Ran(server, client, values_only).ended("SUCCEEDED")
    equal(ran.output("text"), "nothing is put there")
    try:
        Ran(server, client, a_model)
    except kfp_server_api.ApiException as error:
        equal(error.status, 400)
        assert all(word in error.body for word in ("default_pipeline_root", "s3://of-somebody-else/x", "stores")), error.body
    else:
        raise AssertionError("a model was put into a store that nobody can sign in to")


@dsl.component
def letters(count: int, out: Output[Dataset]):
    with open(out.path, "w") as file:
        file.write("a" * count)


@dsl.container_component
def joined(parts: Input[List[Dataset]], whole: Output[Dataset], length: dsl.OutputPath(int)):
    program = """
import json, os, sys
texts = [open(part["uri"]).read() for part in json.loads(sys.argv[1])]
for path, text in ((sys.argv[2], "-".join(texts)), (sys.argv[3], str(len(texts)))):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
"""
    return dsl.ContainerSpec(image="python:3.11", command=["python", "-c", program], args=[parts, whole.uri, length])


@dsl.component
def content(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.pipeline(name="a-list-in-a-command")
def list_in_command():
    with dsl.ParallelFor([1, 3, 2]) as count:
        made = letters(count=count)
    whole = joined(parts=dsl.Collected(made.outputs["out"]))
    content(data=whole.outputs["whole"])


@suite.test
def a_command_is_given_a_list_of_artifacts(server, client):
    ran = Ran(server, client, list_in_command).ended("SUCCEEDED")
    equal((ran.output("joined", "length"), ran.output("content")), (3, "a-aaa-aa"))


def main():
    with suite.guard("server"), Server() as server:
        client = kfp.Client(host=server.url)
        sys.stdout, out = open(os.devnull, "w"), sys.stdout
        suite.run(server, client, workers=2)
        sys.stdout = out
    suite.close()


main()
