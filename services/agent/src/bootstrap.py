"""Runs a lightweight component: hands the executor of kfp what it wants on its command line, from files.

usage: bootstrap.py EXECUTOR_INPUT_FILE SOURCE_FILE FUNCTION [--pdb]
"""

import gc
import importlib
import importlib.util
import os
import runpy
import sys


def take_uris_for_paths(types):
    """Old SDKs, 2.4 among them, know the paths of three remote stores and none for other URIs. Later ones take any other
    URI for the path itself, which ours are."""
    artifact = importlib.import_module(types).Artifact
    known = artifact._get_path
    if known(artifact(uri="/")) is None:
        artifact._get_path = lambda self: known(self) or self.uri or None


def main():
    input_file, source_file, function = sys.argv[1:4]
    debug = sys.argv[4:] == ["--pdb"]
    with open(input_file, encoding="utf-8") as file:
        executor_input = file.read()
    # Packages are compiled already, and the source file is read once: its bytecode would be written for nobody.
    sys.dont_write_bytecode = True
    # As `python -m` would have it: the working directory comes first, not the one of this file.
    sys.path[0] = os.getcwd()
    sys.argv = [
        "executor_main",
        "--component_module_path",
        source_file,
        "--executor_input",
        executor_input,
        "--function_to_execute",
        function,
    ]
    # The executor's imports leave no garbage to look for, and looking takes as long as some of them. What they made lives
    # as long as the process; frozen, it is not searched at the exit either, which is a sixth of a short step.
    gc.disable()
    package = "kfp.dsl"
    if importlib.util.find_spec("kfp.dsl.executor_main") is None:
        # SDK 2.0.
        package = "kfp.components"
    module = f"{package}.executor_main"
    take_uris_for_paths(f"{package}.types.artifact_types")
    if os.path.exists(os.path.join(os.path.dirname(__file__), "places.json")):
        sys.path.insert(0, os.path.dirname(__file__))
        import places

        del sys.path[0]
        places.tell(sys.modules[f"{package}.types.artifact_types"])
    importlib.import_module(f"{package}.executor")
    gc.freeze()
    gc.enable()
    if not debug:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        import pdb
        import traceback

        traceback.print_exc()
        pdb.post_mortem(sys.exc_info()[2])
        sys.exit(1)


if __name__ == "__main__":
    main()
