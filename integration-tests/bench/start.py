"""How soon the fleet is ready, and what it costs when it does nothing and when a hundred steps run."""

import glob
import os
import time

import harness

STEPS = 100


def sleepers(count):
    """A pipeline of steps that wait, small enough to be admitted all at once."""
    tasks, components, executors = {}, {}, {}
    for number in range(count):
        name = f"wait-{number}"
        tasks[name] = {"taskInfo": {"name": name}, "componentRef": {"name": f"comp-{name}"}}
        components[f"comp-{name}"] = {"executorLabel": f"exec-{name}"}
        executors[f"exec-{name}"] = {
            "container": {
                "image": "alpine",
                "command": ["sleep", "600"],
                "resources": {"resourceCpuRequest": "10m"},
            }
        }
    return {
        "pipelineInfo": {"name": "sleepers"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "root": {"dag": {"tasks": tasks}},
        "components": components,
        "deploymentSpec": {"executors": executors},
    }


def agents(server):
    """The processes of agents of this server: their only argument lies in its data directory."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            continue
        if b"flumina-agent" in arguments[0] and server.data.encode() in b" ".join(arguments):
            found.append(int(path.split("/")[2]))
    return found


def settle(read, quiet=1.0, limit=60.0):
    """Reads until the value has stood still for a while."""
    deadline, last, since = time.monotonic() + limit, read(), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < quiet:
        time.sleep(0.1)
        now = read()
        if now != last:
            last, since = now, time.monotonic()
    return last


def main():
    args = harness.arguments("start")
    record = harness.Record("start", args)
    starts, idle, agent_size = [], [], 0
    for _ in range(3 if args.quick else 11):
        with harness.Server(args.flumina) as server:
            starts.append(server.ready_seconds)
            time.sleep(1.0)
            idle.append(harness.memory_kib(server.process.pid) / 1024)
            for path in glob.glob(server.data + "/**/flumina-agent*", recursive=True):
                agent_size = max(agent_size, os.path.getsize(path))
    start, memory = harness.spread(starts), harness.spread(idle)
    record.figure("ready from an empty directory", start["median"], "s", 1.0, start)
    record.figure("idle resident memory", memory["median"], "MiB", 40.0, memory)
    size = os.path.getsize(args.flumina) / 2**20
    record.figure("binary", size, "MiB", 40.0)
    record.figure("agent", agent_size / 2**20, "MiB", 2.0)

    costs = []
    for _ in range(1 if args.quick else 3):
        with harness.Server(args.flumina) as server:
            time.sleep(1.0)
            before = harness.memory_kib(server.process.pid)
            run_id = server.submit(sleepers(STEPS), "sleepers")
            settle(lambda: len(agents(server)), limit=120)
            running = agents(server)
            if len(running) != STEPS:
                raise SystemExit(f"{len(running)} of {STEPS} steps run: {server.tasks(run_id)[-1]}")
            after = settle(lambda: harness.memory_kib(server.process.pid), limit=10)
            own = sum(harness.memory_kib(pid) for pid in running)
            costs.append((after - before + own) / STEPS / 1024)
    cost = harness.spread(costs)
    record.figure("a running step: server's growth and agent", cost["median"], "MiB", 2.0, cost)
    record.write()


main()
