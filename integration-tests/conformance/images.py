# python: kfp-2.17
"""What a component brings besides its function, and what its image would have brought: notebooks, embedded files, packages
from an index, containerised components, shells, programs and modules that are only in an image."""

import json
import os
import pathlib
import sys
import tempfile
import warnings

from _harness import Server, Suite, equal

warnings.simplefilter("ignore")
import kfp  # noqa: E402
from kfp import dsl  # noqa: E402
from kfp.dsl import Dataset, OutputPath  # noqa: E402

IMAGE = "python:3.11-slim"
INDEX = "https://pypi.org/simple"
suite = Suite()
FOLDER = tempfile.TemporaryDirectory()
ASSETS = pathlib.Path(FOLDER.name)


def notebook(name, *cells):
    """A notebook of code cells; the first may be given as its parameters."""
    made = [
        {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for number, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    text = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": made})
    path = ASSETS / f"{name}.ipynb"
    path.write_text(text)
    return str(path)


SUM = notebook("sum", "total = sum(range(limit))\nopen(result, 'w').write(str(total))")
BROKEN = notebook("broken", "numbers = {}\n", "numbers['none']")
(ASSETS / "folder/deep").mkdir(parents=True)
(ASSETS / "folder/deep/greeting.txt").write_text("from a folder")
(ASSETS / "one.txt").write_text("from a file")
(ASSETS / "image").mkdir()
(ASSETS / "image/kfp_config.ini").write_text("[Components]\nshout = parts.py\n")
(ASSETS / "image/loud.py").write_text("def loud(text):\n    return text.upper()\n")
(ASSETS / "image/parts.py").write_text(
    "import loud\nfrom kfp import dsl\n\n\n"
    "@dsl.component(base_image='python:3.11', target_image='registry.example/shout:1')\n"
    "def shout(text: str) -> str:\n    open('made-by-a-step', 'w').close()\n    return loud.loud(text)\n"
)


@dsl.notebook_component(notebook_path=SUM, base_image=IMAGE)
def summed(limit: int) -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        dsl.run_notebook(limit=limit, result=folder + "/result")
        with open(folder + "/result") as file:
            return int(file.read())


@dsl.notebook_component(notebook_path=BROKEN, base_image=IMAGE)
def broken():
    dsl.run_notebook()


@dsl.component(base_image=IMAGE, embedded_artifact_path=str(ASSETS / "folder"))
def of_folder(data: dsl.EmbeddedInput[Dataset]) -> str:
    with open(data.path + "/deep/greeting.txt") as file:
        return file.read()


@dsl.component(base_image=IMAGE, embedded_artifact_path=str(ASSETS / "one.txt"))
def of_file(data: dsl.EmbeddedInput[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.component(base_image=IMAGE, packages_to_install=["toolz==1.1.0"], pip_index_urls=[INDEX], use_venv=True)
def of_index() -> str:
    import toolz

    return toolz.__version__


@dsl.component(base_image="python:3.11", target_image="registry.example/shout:1")
def shout(text: str) -> str:
    return text


@dsl.component(base_image="python:3.11", target_image="registry.example/nowhere:1")
def whisper(text: str) -> str:
    return text


@dsl.container_component
def compare(image: str, text: str, out: OutputPath(str)):
    # `[[` is no command: the shell of BusyBox knows it, that of Debian does not.
    script = 'mkdir -p "$(dirname "$1")"; [[ "$0" == a* ]] && printf %s "$0" > "$1"'
    return dsl.ContainerSpec(image="ghcr.io/containerd/busybox", command=["sh", "-ec", script], args=[text, out])


@dsl.container_component
def missing_program():
    return dsl.ContainerSpec(image="registry.example/tools:1", command=["a-program-of-an-image"])


@dsl.container_component
def missing_command():
    return dsl.ContainerSpec(image="registry.example/tools:1", command=["sh", "-c", "a-program-of-an-image --now"])


@dsl.container_component
def missing_module():
    return dsl.ContainerSpec(image="registry.example/tools:1", command=["python3", "-m", "a_module_of_an_image"])


@dsl.container_component
def missing_entry():
    return dsl.ContainerSpec(image="registry.example/tools:1", args=["--now"])


@dsl.component(base_image=IMAGE)
def managed() -> dict:
    """A manager of `multiprocessing` listens on a socket among the temporary files."""
    import multiprocessing

    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        worker = multiprocessing.get_context("fork").Process(target=shared.update, args=({"from": "another process"},))
        worker.start()
        worker.join()
        return dict(shared)


@dsl.pipeline(name="notebooks")
def notebooks():
    summed(limit=5)


@dsl.pipeline(name="a-broken-notebook")
def a_broken_notebook():
    broken()


@dsl.pipeline(name="embedded")
def embedded():
    of_folder()
    of_file()


@dsl.pipeline(name="index")
def index():
    of_index()


@dsl.pipeline(name="containerised")
def containerised():
    shout(text="quiet")


@dsl.pipeline(name="containerised-elsewhere")
def containerised_elsewhere():
    whisper(text="quiet")


@dsl.pipeline(name="shells")
def shells():
    compare(image="x", text="abc")


def alone(component):
    @dsl.pipeline(name="lost")
    def lost():
        component()

    return lost


@dsl.pipeline(name="sockets")
def sockets():
    managed()


def ran(server, pipeline):
    client = kfp.Client(host=server.url)
    run_id = client.create_run_from_pipeline_func(pipeline, arguments={}, enable_caching=False).run_id
    run = server.wait(run_id, 240)
    return run, server.tasks(run_id)


def succeeded(server, pipeline):
    run, tasks = ran(server, pipeline)
    equal(run["state"], "SUCCEEDED", run.get("message"))
    return {path: next(iter(task.get("output_parameters", {}).values()), None) for path, task in tasks.items() if path}


def failed(server, pipeline):
    run, tasks = ran(server, pipeline)
    equal(run["state"], "FAILED")
    return {path: task["attempts"][-1] for path, task in tasks.items() if task.get("attempts")}


@suite.test
def a_notebook_runs_with_its_parameters(server):
    equal(succeeded(server, notebooks), {"summed": 10})


@suite.test
def a_notebook_that_fails_says_why(server):
    last = failed(server, a_broken_notebook)["broken"]
    equal(last["reason"], "PROGRAM_FAILED")
    assert "KeyError" in last["message"] and "none" in last["message"], last["message"]


@suite.test
def embedded_files_and_folders_arrive(server):
    equal(succeeded(server, embedded), {"of-folder": "from a folder", "of-file": "from a file"})


@suite.test
def packages_come_from_the_index_that_is_named_into_an_environment_of_their_own(server):
    equal(succeeded(server, index), {"of-index": "1.1.0"})


@suite.test
def a_containerised_component_runs_from_its_source(server):
    equal(succeeded(server, containerised), {"shout": "QUIET"})
    assert not (ASSETS / "image/made-by-a-step").exists(), "a step wrote among the source"


@suite.test
def a_containerised_component_without_source_says_where_to_name_it(server):
    last = failed(server, containerised_elsewhere)["whisper"]
    equal(last["reason"], "IMAGE_NOT_AVAILABLE")
    for word in ("registry.example/nowhere:1", "[[runner.images]]", "source", "kfp_config.ini", "target_image"):
        assert word in last["message"], (word, last["message"])


@suite.test
def a_shell_is_like_that_of_its_image(server):
    equal(succeeded(server, shells), {"compare": "abc"})


@suite.test
def what_only_an_image_has_is_missed_by_name(server):
    for component, reason, *words in (
        (missing_program, "PROGRAM_NOT_FOUND", "a-program-of-an-image", "map the image"),
        (missing_command, "PROGRAM_FAILED", "a-program-of-an-image", "[[runner.images]]"),
        (missing_module, "PROGRAM_FAILED", "a_module_of_an_image", "[[runner.images]]"),
        (missing_entry, "INVALID_WORKLOAD", "entry point", "registry.example/tools:1"),
    ):
        [last] = failed(server, alone(component)).values()
        equal(last["reason"], reason, last["message"])
        assert all(word in last["message"] for word in words), last["message"]


@suite.test
def temporary_files_leave_room_for_sockets(server):
    equal(succeeded(server, sockets), {"managed": {"from": "another process"}})


def main():
    sys.stdout = open(os.devnull, "w")
    config = f'[[runner.images]]\nimage = "registry.example/shout:*"\nsource = "{ASSETS / "image"}"\n'
    with suite.guard("the server starts"), FOLDER, Server(config=config) as server:
        suite.run(server, workers=3)
    suite.close()


if __name__ == "__main__":
    main()
