"""Pipelines that hand on artifacts, and programs in containers."""

import json
from typing import Optional

from _cases import RECENT, SHELL, artifacts, case, outputs
from _harness import equal
from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


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
    notes = made["attempts"][0]["notes"]
    assert any("alpine" in note for note in notes), notes
    equal(outputs(made), {"size": 9, "words": ["a", 1]})
    [data] = artifacts(server, made, "data")
    lines = outputs(tasks["placeholders"])["out"].rstrip("\n").split("\n")
    text = "it's \"ok\""
    equal(lines[:5], [f"text={text}", "9", "2.5", "true", '["a",1]'])
    equal(json.loads(lines[5]), {"k": [1, {"z": "y"}]})
    equal(lines[6:11], [f"--text={text}!", "--given", "yes", "--not-absent", "xyes"])
    equal(lines[11:15], [data["uri"], data["uri"], run["run_id"], "placeholders"])
    equal(outputs(tasks["metadata-placeholders"])["name"], "teal")


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
