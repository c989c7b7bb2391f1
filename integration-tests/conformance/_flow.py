"""What the suite of control flow shares: a run that has ended, and components."""

import json
import os
import tempfile
import threading
import warnings
from typing import List, NamedTuple

from _harness import equal

warnings.simplefilter("ignore")
os.environ["KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT"] = "true"
import yaml  # noqa: E402
from kfp import compiler, dsl  # noqa: E402
from kfp.dsl import Dataset, Input, Output  # noqa: E402


# The SDK compiles one pipeline at a time in a process.
COMPILER = threading.Lock()


class Ran:
    """A run that has ended, with its tasks by path."""

    def __init__(self, server, client, pipeline, arguments=None, edit=None, seconds=240, caching=None):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pipeline.yaml")
            with COMPILER:
                compiler.Compiler().compile(pipeline, path)
            if edit:
                with open(path) as file:
                    spec = yaml.safe_load(file)
                edit(spec)
                with open(path, "w") as file:
                    json.dump(spec, file)
            started = client.create_run_from_pipeline_package(
                path, arguments=arguments or {}, enable_caching=caching
            )
        self.id = started.run_id
        self.run = server.wait(self.id, seconds)
        self.tasks = server.tasks(self.id)

    def state(self, path):
        return self.tasks[path]["state"]

    def reason(self, path):
        return self.tasks[path].get("reason", "")

    def message(self, path):
        return self.tasks[path].get("message", "")

    def output(self, path, name="Output"):
        return self.tasks[path]["output_parameters"][name]

    def artifacts(self, server, path, name):
        """The artifacts of an output, in full."""
        return [server.artifact(found) for found in self.tasks[path]["output_artifacts"][name]["ids"]]

    def input(self, path, name):
        return self.tasks[path]["input_parameters"][name]

    def ended(self, state):
        shown = {path: (task["state"], task.get("message", "")) for path, task in self.tasks.items()}
        equal(self.run["state"], state, f"{self.run.get('message')} {shown}")
        return self


@dsl.component
def text(value: str) -> str:
    return value


@dsl.component
def number(value: int) -> int:
    return value


@dsl.component
def score(value: float) -> NamedTuple("Score", [("acc", float)]):
    from collections import namedtuple

    return namedtuple("Score", ["acc"])(value)


@dsl.component
def total(values: List[int]) -> int:
    return sum(values)


@dsl.component
def write(value: str, data: Output[Dataset]):
    data.metadata["value"] = value
    with open(data.path, "w") as file:
        file.write(value)


@dsl.component
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.component
def read_all(data: List[Dataset]) -> list:
    values = []
    # The SDK gives a component None for an empty list of artifacts.
    for one in data or []:
        with open(one.path) as file:
            values.append(file.read())
    return values


@dsl.component
def fail(value: str = "") -> str:
    raise ValueError("broken on purpose")
