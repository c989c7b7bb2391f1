# python: kfp-2.17
"""Our contracts against what upstream publishes: the models of kfp-server-api, the descriptors in the SDK's wheels,
and a table of the numbers of the pipelines API (README.md says why a table)."""

import pathlib
import re

import kfp_server_api
from _harness import ROOT, Suite, equal
from google.protobuf import descriptor_pb2
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

PACKAGE = "kubeflow.pipelines.backend.api.v2beta1"
suite = Suite()


def descriptors():
    """All messages and enums of our descriptor sets by full name, without the leading dot."""
    messages, enums = {}, {}

    def visit(prefix, message):
        name = f"{prefix}.{message.name}"
        messages[name] = message
        for inner in message.nested_type:
            visit(name, inner)
        for inner in message.enum_type:
            enums[f"{name}.{inner.name}"] = inner

    for path in sorted((ROOT / "libs").rglob("descriptor*.bin")):
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        for file in files.file:
            for message in file.message_type:
                visit(file.package, message)
            for enum in file.enum_type:
                enums[f"{file.package}.{enum.name}"] = enum
    return messages, enums


MESSAGES, ENUMS = descriptors()
# Named by the old code generator for the bodies of uploads, or not served: visualizations are legacy.
UNSERVED = re.compile(r"InlineObject\d*|.*Visualization.*|Googlerpc.*|GoogleRpc.*|Protobuf.*")


def ours(model):
    """The full name of the message that a generated model stands for."""
    if model.startswith("V2beta1"):
        name = model.removeprefix("V2beta1")
    else:
        name = model
    known = {full.removeprefix(PACKAGE + ".").replace(".", ""): full for full in (*MESSAGES, *ENUMS) if full.startswith(PACKAGE)}
    return known.get(name)


@suite.test
def every_model_of_the_rest_client_is_a_message_of_ours():
    missing = [model for model in models() if not ours(model)]
    equal(missing, [])


def models():
    for name in dir(kfp_server_api):
        kind = getattr(kfp_server_api, name)
        if hasattr(kind, "attribute_map") and not UNSERVED.fullmatch(name):
            yield name


def compare_model(model):
    kind = getattr(kfp_server_api, model)
    full = ours(model)
    assert full, f"{model} is not in our contracts"
    if full in ENUMS:
        values = {value.name for value in ENUMS[full].value}
        equal(values ^ set(kind.allowable_values), set(), model)
    else:
        fields = {field.name for field in MESSAGES[full].field}
        theirs = set(kind.attribute_map.values())
        equal(fields ^ theirs, set(), f"{model} differs in")


for _name in models():
    suite.add(f"names of {_name}", lambda name=_name: compare_model(name))


@suite.test
def no_message_of_ours_is_unknown_to_the_rest_client():
    """Requests are spelled as parameters there; everything else is a model."""
    known = {ours(model) for model in models()}
    own = {
        name
        for name, message in MESSAGES.items()
        if name.startswith(PACKAGE + ".")
        and not name.endswith("Request")
        and not message.options.map_entry
    }
    equal(own - known, set())


def table():
    for line in (pathlib.Path(__file__).parent / "kfp_v2beta1.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            head, _, fields = line.partition(":")
            kind, name = head.split()
            numbers = {field: int(number) for field, number in (pair.split("=") for pair in fields.split())}
            yield kind, name, numbers


def compare_numbers(kind, name, numbers):
    if kind == "enum":
        found = {value.name: value.number for value in ENUMS[f"{PACKAGE}.{name}"].value}
    else:
        found = {field.name: field.number for field in MESSAGES[f"{PACKAGE}.{name}"].field}
    equal(found, numbers, name)


for _row in table():
    suite.add(f"numbers of {_row[1]}", lambda row=_row: compare_numbers(*row))


@suite.test
def the_table_has_all_messages_and_enums():
    listed = {f"{PACKAGE}.{name}" for _, name, _ in table()}
    own = {name for name in ENUMS if name.startswith(PACKAGE)}
    own |= {name for name, message in MESSAGES.items() if name.startswith(PACKAGE) and not message.options.map_entry}
    equal(own ^ listed, set())


def json_name(field):
    """Some libraries leave out the default when they write a descriptor."""
    return field.json_name or re.sub("_([a-z])", lambda letter: letter[1].upper(), field.name)


def shape(field):
    kind = field.type_name.removeprefix(".") if field.type_name else field.type
    oneof = field.oneof_index if field.HasField("oneof_index") else None
    return field.number, field.name, json_name(field), kind, field.label, field.proto3_optional, oneof


def compare_descriptor(module):
    """All that a wheel's descriptor says, besides options and comments, is in ours; ours may know newer fields."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)

    def visit(prefix, message):
        name = f"{prefix}.{message.name}"
        own = MESSAGES.get(name)
        assert own is not None, f"{name} is missing"
        equal(set(map(shape, message.field)) - set(map(shape, own.field)), set(), f"{name} lacks")
        for inner in message.nested_type:
            visit(name, inner)
        for inner in message.enum_type:
            compare_enum(f"{name}.{inner.name}", inner)

    def compare_enum(name, enum):
        equal({v.name: v.number for v in ENUMS[name].value}, {v.name: v.number for v in enum.value}, name)

    for message in file.message_type:
        visit(file.package, message)
    for enum in file.enum_type:
        compare_enum(f"{file.package}.{enum.name}", enum)


suite.add("the pipeline spec is that of its wheel", lambda: compare_descriptor(pipeline_spec_pb2))
suite.add("kubernetes settings are those of their wheel", lambda: compare_descriptor(kubernetes_executor_config_pb2))

if __name__ == "__main__":
    suite.run()
    suite.close()
