"""Tells the kfp SDK where artifacts that are in stores of the network are on this machine.

The SDK looks for them at /s3, /minio and /gcs, which a process may not write, and has no other place for the rest. Imported by
name, it offers `tell`; as `sitecustomize` it waits until a program of the SDK imports the module.
"""

import json
import os
import sys

MODULES = ("kfp.dsl.types.artifact_types", "kfp.components.types.artifact_types")


def tell(types):
    """Puts the places before what the module `artifact_types` of the SDK knows itself."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "places.json"), encoding="utf-8") as file:
        places = json.load(file)
    known_path = types.Artifact._get_path
    known_uri = types.convert_local_path_to_remote_path

    def within(text, base):
        return text == base or text.startswith(base + "/")

    def path(self):
        # Later SDKs let a program choose a path of its own.
        if not getattr(self, "custom_path", ""):
            for uri, local in places:
                if within(self.uri, uri):
                    return local + self.uri[len(uri) :]
        return known_path(self)

    def to_uri(text):
        for uri, local in places:
            if within(text, local):
                return uri + text[len(local) :]
        return known_uri(text)

    types.Artifact._get_path = path
    types.convert_local_path_to_remote_path = to_uri


class Finder:
    """Finds the modules as everybody else does, and tells them when they have been loaded."""

    def find_spec(self, name, path=None, target=None):
        if name not in MODULES:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_tell(module):
            load(module)
            tell(module)

        spec.loader.exec_module = load_and_tell
        return spec


def stand_in():
    """Lets the `sitecustomize` that this one hides have its turn."""
    own = os.path.dirname(os.path.abspath(__file__))
    hidden = [entry for entry in sys.path if os.path.abspath(entry) != own]
    found, sys.path[:] = sys.path[:], hidden
    mine = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError:
        if mine is not None:
            sys.modules["sitecustomize"] = mine
    finally:
        sys.path[:] = found


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Finder())
    stand_in()
