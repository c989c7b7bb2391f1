# python: kfp-2.17
"""A pipeline of a size and shape that people run: pandas on an image of their own, and a fan of 200 tasks."""

import os
import sys
import warnings

from _harness import Server, Suite, equal

warnings.simplefilter("ignore")
import kfp  # noqa: E402
from kfp import dsl  # noqa: E402
from kfp.dsl import Dataset, Input, Metrics, Output  # noqa: E402

IMAGE = "python:3.11-slim"
PACKAGES = ["pandas==3.1.1"]
PARTS = 200
ROWS = 20_000
suite = Suite()


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def measure(rows: int, parts: int, table: Output[Dataset]):
    """A table of sensor readings that are known exactly."""
    import pandas

    frame = pandas.DataFrame({"sensor": [row % parts for row in range(rows)], "value": [row * 0.5 for row in range(rows)]})
    frame.to_csv(table.path, index=False)
    table.metadata["rows"] = len(frame)


@dsl.component(base_image=IMAGE)
def total(table: Input[Dataset], sensor: int) -> float:
    """One of many: the sum of a sensor's readings, without any package."""
    import csv

    with open(table.path) as file:
        return sum(float(row["value"]) for row in csv.DictReader(file) if int(row["sensor"]) == sensor)


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def summarise(totals: list, table: Input[Dataset], metrics: Output[Metrics]) -> float:
    """Fails unless the parts are what pandas finds for the whole."""
    import pandas

    frame = pandas.read_csv(table.path)
    expected = frame.groupby("sensor")["value"].sum()
    assert [float(total) for total in totals] == expected.tolist(), "the parts differ"
    metrics.log_metric("parts", len(totals))
    metrics.log_metric("largest", float(expected.max()))
    return float(frame["value"].sum())


@dsl.pipeline(name="sensors")
def sensors(rows: int = ROWS) -> float:
    measured = measure(rows=rows, parts=PARTS)
    # A loop of Python: 200 tasks of their own in the pipeline.
    totals = [total(table=measured.outputs["table"], sensor=sensor).output for sensor in range(PARTS)]
    return summarise(totals=totals, table=measured.outputs["table"]).outputs["Output"]


def checks(server, run, tasks):
    @suite.test
    def the_run_succeeds_with_the_right_sum():
        equal(run["state"], "SUCCEEDED", run.get("message"))
        equal(run["outputs"], {"Output": sum(row * 0.5 for row in range(ROWS))})

    @suite.test
    def every_part_has_its_own_result():
        for sensor in range(PARTS):
            task = tasks["total" if sensor == 0 else f"total-{sensor + 1}"]
            expected = sum(row * 0.5 for row in range(sensor, ROWS, PARTS))
            equal(task["output_parameters"]["Output"], expected, task["path"])
            equal(len(task["attempts"]), 1, task["path"])

    @suite.test
    def the_metrics_are_kept():
        [metrics] = tasks["summarise"]["output_artifacts"]["metrics"]["ids"]
        found = server.artifact(metrics)["metadata"]
        equal(found["parts"], PARTS)

    @suite.test
    def what_ran_instead_of_the_image_is_noted():
        # No container runs here; the image only picks the interpreter, and a task says when that is another.
        notes = tasks["measure"]["attempts"][0].get("notes", [])
        exact = sys.version_info[:2] == (3, 11)
        assert exact or any("3.11" in note for note in notes), notes

    @suite.test
    def the_adopted_api_shows_all_tasks():
        found = server.get(f"/apis/v2beta1/runs/{run['run_id']}")["run_details"]["task_details"]
        names = [task["display_name"] for task in found]
        equal(sum(name.startswith("total") for name in names), PARTS)


def main():
    sys.stdout = open(os.devnull, "w")
    with suite.guard("the pipeline runs"), Server() as server:
        client = kfp.Client(host=server.url)
        run_id = client.create_run_from_pipeline_func(sensors, arguments={}, enable_caching=False).run_id
        run = server.wait(run_id, 420)
        checks(server, run, server.tasks(run_id))
        suite.run()
    suite.close()


if __name__ == "__main__":
    main()
