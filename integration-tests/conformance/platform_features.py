# python: kfp-2.17
"""What kfp-kubernetes asks of a task, one pipeline per feature, each by the values that its steps saw."""

import base64
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

from _harness import Server, Suite, environment, equal, flumina

warnings.simplefilter("ignore")
import kfp  # noqa: E402
from kfp import dsl, kubernetes  # noqa: E402
from kfp.dsl import Dataset, Input, Output  # noqa: E402

IMAGE = "python:3.11-slim"
HIDDEN = "a-value-that-nobody-sees"
STORE_SECRET = "test-secret-do-not-show"
STORE = "/apis/flumina.runner/v1/namespaces/default"
suite = Suite()


@dsl.component(base_image=IMAGE)
def variables(names: list) -> dict:
    import os

    return {name: os.environ.get(name, "(none)") for name in names}


@dsl.component(base_image=IMAGE)
def digest_of(variable: str, file: str) -> str:
    """What may be told of a secret that came both ways."""
    import hashlib
    import os

    text = open(file).read()
    assert text == os.environ[variable], "the two ways differ"
    return hashlib.sha256(text.encode()).hexdigest()


@dsl.component(base_image=IMAGE)
def listing(path: str) -> list:
    import os

    return sorted(os.listdir(path))


@dsl.component(base_image=IMAGE)
def put(path: str, text: str) -> str:
    import os

    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
    return path


@dsl.component(base_image=IMAGE)
def take(path: str) -> str:
    return open(path).read()


@dsl.component(base_image=IMAGE)
def nap(seconds: float):
    import time

    time.sleep(seconds)


@dsl.component(base_image=IMAGE)
def where(data: Input[Dataset]) -> str:
    return data.path.split("/")[1] + ":" + open(data.path).read()


@dsl.pipeline(name="secrets")
def secrets(name: str = "account"):
    task = digest_of(variable="TOKEN", file="/mnt/account/token")
    kubernetes.use_secret_as_env(task, secret_name=name, secret_key_to_env={"token": "TOKEN"})
    kubernetes.use_secret_as_volume(task, secret_name=name, mount_path="/mnt/account")


@dsl.pipeline(name="secrets-missing")
def missing():
    lost = variables(names=["X"]).set_display_name("lost")
    kubernetes.use_secret_as_env(lost, secret_name="gone", secret_key_to_env={"k": "X"})
    optional = variables(names=["X"])
    kubernetes.use_secret_as_env(optional, secret_name="gone", secret_key_to_env={"k": "X"}, optional=True)


@dsl.component(base_image=IMAGE)
def name_of_secret() -> str:
    return "account"


@dsl.pipeline(name="secrets-in-a-loop")
def looped():
    name = name_of_secret()
    with dsl.ParallelFor(["FIRST", "SECOND"], parallelism=1) as item:
        task = digest_of(variable=item, file="/mnt/looped/token")
        for variable in ("FIRST", "SECOND"):
            kubernetes.use_secret_as_env(task, secret_name=name.output, secret_key_to_env={"token": variable})
        kubernetes.use_secret_as_volume(task, secret_name=name.output, mount_path="/mnt/looped")


@dsl.pipeline(name="config-maps")
def config_maps():
    task = variables(names=["MODE"])
    kubernetes.use_config_map_as_env(task, config_map_name="settings", config_map_key_to_env={"mode": "MODE"})
    files = listing(path="/etc/settings-of-this")
    kubernetes.use_config_map_as_volume(files, config_map_name="settings", mount_path="/etc/settings-of-this")


@dsl.pipeline(name="volumes")
def volumes():
    made = kubernetes.CreatePVC(pvc_name_suffix="-of-test", access_modes=["ReadWriteOnce"], size="5Mi", storage_class_name="standard")
    write = put(path="/data-of-test/in/file", text="kept").set_caching_options(False)
    kubernetes.mount_pvc(write, pvc_name=made.outputs["name"], mount_path="/data-of-test")
    read = take(path="/part/file").after(write).set_caching_options(False)
    kubernetes.mount_pvc(read, pvc_name=made.outputs["name"], mount_path="/part", sub_path="in")
    kubernetes.DeletePVC(pvc_name=made.outputs["name"]).after(read)


@dsl.pipeline(name="a-volume-by-name")
def by_name(volume: str):
    write = put(path="/shared-of-test/file", text="by name").set_caching_options(False)
    kubernetes.mount_pvc(write, pvc_name=volume, mount_path="/shared-of-test")


@dsl.pipeline(name="scratch")
def scratch():
    write = put(path="/scratch-of-test/file", text="x")
    kubernetes.empty_dir_mount(write, volume_name="work", mount_path="/scratch-of-test", size_limit="1Gi")
    other = put(path="/ephemeral-of-test/file", text="y")
    kubernetes.add_ephemeral_volume(other, volume_name="big", mount_path="/ephemeral-of-test", access_modes=["ReadWriteOnce"], size="2Gi")


@dsl.pipeline(name="fields")
def fields():
    task = variables(names=["POD", "SPACE", "NODE", "LABEL", "NOTE"])
    kubernetes.add_pod_label(task, "team", "blue")
    kubernetes.add_pod_annotation(task, "note", "hello")
    for name, path in {
        "POD": "metadata.name",
        "SPACE": "metadata.namespace",
        "NODE": "spec.nodeName",
        "LABEL": "metadata.labels['team']",
        "NOTE": "metadata.annotations['note']",
    }.items():
        kubernetes.use_field_path_as_env(task, env_name=name, field_path=path)


@dsl.pipeline(name="late")
def late():
    task = nap(seconds=60.0)
    kubernetes.set_timeout(task, 1)


@dsl.pipeline(name="placed")
def placed():
    task = variables(names=["X"])
    kubernetes.add_node_selector(task, "disk", "ssd")
    kubernetes.add_toleration(task, key="gpu", operator="Exists", effect="NoSchedule")
    kubernetes.set_image_pull_secrets(task, ["registry"])
    kubernetes.set_image_pull_policy(task, "Always")
    kubernetes.set_security_context(task, run_as_user=1000)
    task.set_accelerator_type("tpu-v3").set_accelerator_limit(1)


@dsl.component(base_image=IMAGE)
def devices(folder: str) -> str:
    """Which devices it sees; nobody else has them meanwhile, and it waits until it may end."""
    import os
    import pathlib
    import time

    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "(unset)")
    for device in filter(None, seen.split(",")):
        os.mkdir(os.path.join(folder, "device-" + device))
    deadline = time.monotonic() + 120
    while not os.path.exists(os.path.join(folder, "gate")):
        assert time.monotonic() < deadline, "nobody let it end"
        time.sleep(0.05)
    for device in filter(None, seen.split(",")):
        os.rmdir(os.path.join(folder, "device-" + device))
    return seen


@dsl.pipeline(name="accelerators")
def accelerators(folder: str):
    with dsl.ParallelFor(["a", "b", "c"]) as _:
        devices(folder=folder).set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    both = devices(folder=folder).set_accelerator_type("NVIDIA_TESLA_K80").set_accelerator_limit(2)
    both.set_display_name("both")
    variables(names=["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"])


@dsl.pipeline(name="too-many-accelerators")
def too_many():
    variables(names=["X"]).set_gpu_limit(3)


@dsl.component(base_image=IMAGE)
def keep(text: str, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write(text)


@dsl.component(base_image=IMAGE)
def length(data: Input[Dataset], variable: str) -> str:
    """What may be told of a secret, and what came from the store."""
    import os

    with open(data.path) as file:
        text = file.read()
    print("read", text, len(os.environ[variable]))
    return f"{text} {len(os.environ[variable])}"


@dsl.pipeline(name="signed-in")
def signed_in():
    task = length(data=keep(text="far away").output, variable="TOKEN")
    kubernetes.use_secret_as_env(task, secret_name="account", secret_key_to_env={"token": "TOKEN"})


WORKSPACE = dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi"))


@dsl.pipeline(name="workspace", pipeline_config=WORKSPACE)
def workspace(uri: str):
    written = put(path=dsl.WORKSPACE_PATH_PLACEHOLDER + "/in/file", text="shared")
    take(path=written.output)
    brought = dsl.importer(artifact_uri=uri, artifact_class=Dataset, download_to_workspace=True)
    where(data=brought.output)


@dsl.pipeline(name="imports-twice", pipeline_config=WORKSPACE)
def imports_twice(uri: str):
    brought = dsl.importer(artifact_uri=uri, artifact_class=Dataset, download_to_workspace=True)
    first = where(data=brought.output)
    where(data=brought.output).after(first)


class Ran:
    """A run that has ended, with its tasks."""

    def __init__(self, server, pipeline, arguments=None, root=None):
        client = kfp.Client(host=server.url)
        run_id = client.create_run_from_pipeline_func(pipeline, arguments=arguments or {}, enable_caching=False, pipeline_root=root).run_id
        self.run = server.wait(run_id, 240)
        self.tasks = server.tasks(run_id)

    def succeeded(self):
        equal(self.run["state"], "SUCCEEDED", self.run.get("message"))
        return self

    def output(self, task, name="Output"):
        return self.tasks[task]["output_parameters"][name]

    def notes(self, task):
        return " | ".join(self.tasks[task]["attempts"][-1].get("notes", []))


def until(what, found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def store(server, kind, name, **values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return server.call("PUT", f"{STORE}/{kind}/{name}", {"data": data, "replace": True})


@suite.test
def a_secret_reaches_its_task_and_nobody_else(server):
    import hashlib

    ran = Ran(server, secrets).succeeded()
    equal(ran.output("digest-of"), hashlib.sha256(HIDDEN.encode()).hexdigest())
    shown = server.get(f"{STORE}/secrets")
    equal([secret["keys"] for secret in shown["secrets"] if secret["name"] == "account"], [["token"]])
    for path in server.folder.rglob("*"):
        if path.is_file() and HIDDEN.encode() in path.read_bytes():
            raise AssertionError(f"the value is in {path}")


@suite.test
def a_secret_that_does_not_exist_fails_its_task_alone(server):
    ran = Ran(server, missing)
    equal(ran.run["state"], "FAILED")
    states = {name: task["state"] for name, task in ran.tasks.items()}
    equal(states["variables"], "FAILED")
    equal(states["variables-2"], "SUCCEEDED")
    equal(ran.output("variables-2"), {"X": "(none)"})
    last = ran.tasks["variables"]["attempts"][-1]
    equal(last["reason"], "SECRET_NOT_FOUND")
    assert "flumina secret create gone" in last["message"], last


@suite.test
def a_loop_takes_a_secret_by_a_name_from_outside(server):
    ran = Ran(server, looped).succeeded()
    digests = [task for path, task in ran.tasks.items() if "digest-of" in path]
    assert digests and all(task["state"] == "SUCCEEDED" for task in digests), ran.tasks.keys()


@suite.test
def config_maps_are_variables_and_files(server):
    ran = Ran(server, config_maps).succeeded()
    equal(ran.output("variables"), {"MODE": "fast"})
    equal(ran.output("listing"), ["level", "mode"])


@suite.test
def volumes_are_made_mounted_and_removed(server):
    ran = Ran(server, volumes).succeeded()
    name = ran.output("createpvc", "name")
    assert name.endswith("-of-test"), name
    equal(ran.output("take"), "kept")
    names = [volume["name"] for volume in server.get(f"{STORE}/volumes").get("volumes", [])]
    assert name not in names, names


@suite.test
def a_volume_that_does_not_exist_is_made_and_noted(server):
    ran = Ran(server, by_name, {"volume": "by-name"}).succeeded()
    assert "`by-name` did not exist" in ran.notes("put"), ran.notes("put")
    found = server.get(f"{STORE}/volumes/by-name")
    equal(pathlib.Path(found["path"], "file").read_text(), "by name")


@suite.test
def empty_directories_are_where_they_were_asked_for(server):
    ran = Ran(server, scratch).succeeded()
    assert "/scratch-of-test (1Gi)" in ran.notes("put"), ran.notes("put")
    assert not os.path.exists("/scratch-of-test") and not os.path.exists("/ephemeral-of-test")


@suite.test
def fields_of_the_pod_are_variables(server):
    found = Ran(server, fields).succeeded().output("variables")
    equal([found[name] for name in ("SPACE", "LABEL", "NOTE")], ["default", "blue", "hello"])
    assert found["POD"] and found["NODE"] == os.uname().nodename, found


@suite.test
def a_task_that_is_late_is_ended(server):
    ran = Ran(server, late)
    equal(ran.run["state"], "FAILED")
    equal(ran.tasks["nap"]["attempts"][-1]["reason"], "TIMED_OUT")


@suite.test
def what_has_no_effect_is_noted(server):
    notes = Ran(server, placed).succeeded().notes("variables")
    for setting in ("nodeSelector", "tolerations", "imagePullSecret", "imagePullPolicy", "securityContext", "tpu-v3"):
        assert setting in notes, (setting, notes)


@suite.test
def accelerators_are_given_to_one_task_at_a_time(server):
    client = kfp.Client(host=server.url)
    with tempfile.TemporaryDirectory() as folder:
        run = client.create_run_from_pipeline_func(accelerators, arguments={"folder": folder}, enable_caching=False)

        def waits():
            tasks = server.tasks(run.run_id).values()
            return [a for task in tasks for a in task.get("attempts", []) if a.get("reason") == "WAITING_FOR_ACCELERATOR"]

        until("tasks wait for accelerators", waits)
        until("a device is used", lambda: os.listdir(folder))
        pathlib.Path(folder, "gate").touch()
        equal(server.wait(run.run_id, 240)["state"], "SUCCEEDED")
    tasks = server.tasks(run.run_id)
    seen = [task.get("output_parameters", {}).get("Output") for task in tasks.values()]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    equal((seen.count("4") + seen.count("7"), seen.count("4,7"), seen.count(hidden)), (3, 1, 1), seen)


@suite.test
def more_accelerators_than_there_are_fail_the_task_by_name(server):
    ran = Ran(server, too_many)
    equal(ran.run["state"], "FAILED")
    last = ran.tasks["variables"]["attempts"][-1]
    equal(last["reason"], "ACCELERATORS_NOT_AVAILABLE", last)
    assert "asked for 3" in last["message"] and "has 2" in last["message"], last


@suite.test
def a_store_is_signed_in_to_with_a_secret_of_the_namespace(server):
    ran = Ran(server, signed_in, root="s3://data/team").succeeded()
    equal(ran.output("length"), f"far away {len(HIDDEN)}")
    [stored] = [path for path in (server.buckets / "data/team").rglob("data") if path.is_file()]
    equal(stored.read_text(), "far away")
    for path in server.folder.rglob("*"):
        if path.is_file() and "/bin/" not in str(path) and STORE_SECRET.encode() in path.read_bytes():
            raise AssertionError(f"the key of the store is in {path}")


@suite.test
def a_replay_has_the_secrets_and_what_is_in_the_store(server):
    ran = Ran(server, signed_in, root="s3://data/replayed").succeeded()
    command = [flumina(), "--server", server.url, "step", "replay", ran.run["run_id"], "length"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, done.stderr)
    assert f"read far away {len(HIDDEN)}" in done.stdout + done.stderr, (done.stdout, done.stderr)
    assert STORE_SECRET not in done.stdout + done.stderr and HIDDEN not in done.stdout + done.stderr


@suite.test
def a_store_whose_secret_is_not_there_or_is_wrong_fails_the_task_by_name(server):
    for bucket, reason, text in (
        ("gone", "SECRET_NOT_FOUND", "no-such-keys"),
        ("odd", "OUTPUT_NOT_STORED", "secret `odd-keys` has no key AWS_ACCESS_KEY_ID"),
    ):
        ran = Ran(server, signed_in, root=f"s3://{bucket}/team")
        equal(ran.run["state"], "FAILED")
        last = ran.tasks["keep"]["attempts"][-1]
        equal(last["reason"], reason, last)
        assert text in last["message"], last


@suite.test
def the_workspace_is_shared_and_takes_imports(server):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("imported")
        file.flush()
        ran = Ran(server, workspace, {"uri": file.name}).succeeded()
    equal(ran.output("put"), "/kfp-workspace/in/file")
    equal(ran.output("take"), "shared")
    equal(ran.output("where"), "kfp-workspace:imported")


@suite.test
def the_workspace_takes_imports_from_a_store(server):
    (server.buckets / "data/imports").mkdir(exist_ok=True)
    (server.buckets / "data/imports/text.txt").write_text("fetched")
    ran = Ran(server, imports_twice, {"uri": "s3://data/imports/text.txt"}).succeeded()
    equal(ran.output("where"), "kfp-workspace:fetched")
    equal(ran.output("where-2"), "kfp-workspace:fetched")


def main():
    sys.stdout = open(os.devnull, "w")
    keys = tempfile.TemporaryDirectory()
    config = f'[runner]\nsecrets_key = "{keys.name}/secrets.key"\ncores = 8\n[[runner.accelerators]]\ntype = "nvidia.com/gpu"\nids = [4, 7]\n'
    store_program = pathlib.Path(environment()["bin"]) / "flumina-test-s3"
    buckets = pathlib.Path(keys.name, "buckets")
    for bucket in ("data", "gone", "odd"):
        (buckets / bucket).mkdir(parents=True)
    s3 = subprocess.Popen([store_program, buckets], stdout=subprocess.PIPE, text=True)
    url = s3.stdout.readline().strip()
    for bucket, secret in (("data", "bucket-keys"), ("gone", "no-such-keys"), ("odd", "odd-keys")):
        config += f'[[stores]]\nuri = "s3://{bucket}"\nendpoint = "{url}"\nsecret = "{secret}"\n'
    with suite.guard("the server starts"), keys, Server(config=config) as server:
        server.buckets = buckets
        store(server, "secrets", "bucket-keys", accesskey="test-key", secretkey=STORE_SECRET)
        store(server, "secrets", "odd-keys", user="test-key", secretkey=STORE_SECRET)
        store(server, "secrets", "account", token=HIDDEN)
        store(server, "configmaps", "settings", mode="fast", level="3")
        suite.run(server, workers=2)
    s3.kill()
    s3.wait()
    suite.close()


if __name__ == "__main__":
    main()
