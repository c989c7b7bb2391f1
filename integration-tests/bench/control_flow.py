"""Loops, conditions, the cache and lists of runs: what they add to what `pipelines` measures."""

import contextlib
import http.client
import json
import os
import sqlite3
import time
import urllib.parse
import uuid

import harness

RUNS = 10_000
ECHO = {"container": {"image": "alpine", "command": ["sh", "-c", "echo done"]}}


def spec(name, tasks, components, executor=ECHO, inputs=None):
    root = {"dag": {"tasks": tasks}}
    if inputs:
        root["inputDefinitions"] = inputs
    return {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "root": root,
        "components": {"comp-step": {"executorLabel": "exec-step"}, **components},
        "deploymentSpec": {"executors": {"exec-step": executor}},
    }


def step(name):
    return {"taskInfo": {"name": name}, "componentRef": {"name": "comp-step"}}


def loop(count):
    """A loop of trivial shell steps."""
    body = {
        "dag": {"tasks": {"step": step("step")}},
        "inputDefinitions": {"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}},
    }
    items = json.dumps(list(range(count)))
    task = {
        "taskInfo": {"name": "loop"},
        "componentRef": {"name": "comp-body"},
        "parameterIterator": {"itemInput": "item", "items": {"raw": items}},
    }
    return spec(f"loop-{count}", {"loop": task}, {"comp-body": body})


def conditions(count):
    """Conditions beside each other, of which every other one holds."""
    body = {
        "dag": {"tasks": {"step": step("step")}},
        "inputDefinitions": {"parameters": {"number": {"parameterType": "NUMBER_INTEGER"}}},
    }
    tasks = {}
    for number in range(count):
        name = f"condition-{number}"
        tasks[name] = {
            "taskInfo": {"name": name},
            "componentRef": {"name": "comp-body"},
            "inputs": {"parameters": {"number": {"runtimeValue": {"constant": number % 2}}}},
            "triggerPolicy": {"condition": "inputs.parameter_values['number'] == 1"},
        }
    return spec(f"conditions-{count}", tasks, {"comp-body": body})


def uncached(count, asks):
    """Steps that nobody has run before; `asks` says whether the cache is asked."""
    command = ["sh", "-c", "echo done", str(uuid.uuid4())]
    tasks = {}
    components = {}
    for number in range(count):
        name = f"step-{number}"
        tasks[name] = {
            "taskInfo": {"name": name},
            "componentRef": {"name": f"comp-{number}"},
            "inputs": {"parameters": {"number": {"runtimeValue": {"constant": number}}}},
            "cachingOptions": {"enableCache": asks},
        }
        components[f"comp-{number}"] = {
            "executorLabel": "exec-step",
            "inputDefinitions": {"parameters": {"number": {"parameterType": "NUMBER_INTEGER"}}},
        }
    return spec(f"uncached-{count}", tasks, components, {"container": {"image": "alpine", "command": command}})


def measure(server, record, repeat, timed, bare):
    measure_loops(server, record, repeat, timed, bare)
    measure_conditions(server, record, repeat, timed, bare)
    measure_misses(server, record, repeat, timed)
    measure_lists(server, record)


def above(ours, plain, count):
    middle = [harness.spread(values)["median"] for values in (ours, plain)]
    return (middle[0] - middle[1]) / count * 1000


def measure_loops(server, record, repeat, timed, bare):
    whole = {}
    for count in (100, 1000):
        ours, plain = [], []
        for _ in range(repeat):
            ours.append(timed(server, loop(count), f"loop {count}"))
            plain.append(bare(count))
        raw = {"flumina": ours, "bare": plain}
        bar = 7.5 if count == 100 else None
        record.figure(f"loop of {count}: above bare commands", above(ours, plain, count), "ms a task", bar, raw)
        whole[count] = harness.spread(ours)["median"] / count * 1000
    record.figure("loop of 1000: a task's time to that at 100", whole[1000] / whole[100], "ratio", 1.3, whole)


def measure_conditions(server, record, repeat, timed, bare):
    ours, plain = [], []
    for _ in range(repeat):
        ours.append(timed(server, conditions(100), "conditions"))
        plain.append(bare(50))
    raw = {"flumina": ours, "bare": plain}
    record.figure("100 conditions, 50 hold: above bare", above(ours, plain, 100), "ms each", 7.5, raw)


def measure_misses(server, record, repeat, timed):
    """What it costs that the cache is asked in vain, and that the result is kept there."""
    count, asked, free = 200, [], []
    for number in range(2 * repeat):
        order = [(True, asked), (False, free)]
        for asks, times in order if number % 2 else order[::-1]:
            times.append(timed(server, uncached(count, asks), "uncached"))
    raw = {"asked": asked, "not asked": free}
    record.figure("a cache miss", above(asked, free, count), "ms a step", 0.2, raw)


def measure_lists(server, record):
    """A page of 50 runs of 10,000, as a client sees it."""
    run = server.submit(loop(1), "listed")
    server.wait(run)
    multiply(os.path.join(server.data, "pipeline-orchestrator.sqlite"), run)
    address = urllib.parse.urlsplit(server.url)
    for condition in (
        "",
        "tag.team = team-3",
        "metric.accuracy > 0.9",
        "metric.accuracy > 0.9 AND tag.team = team-1",
        "param.rows < 10 AND state = SUCCEEDED",
        "state = FAILED",
    ):
        path = "/apis/flumina.pipelines/v1/runs?" + urllib.parse.urlencode({"page_size": 50, "filter": condition})
        times = []
        with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port, timeout=60)) as client:
            for _ in range(60):
                begun = time.perf_counter()
                client.request("GET", path)
                answer = client.getresponse()
                body = answer.read()
                times.append((time.perf_counter() - begun) * 1000)
                assert answer.status == 200, body
        name = f"50 of 10,000 runs, {condition or 'all'}"
        record.figure(name, harness.spread(times)["median"], "ms", 10.0, times)


def multiply(path, run):
    """Copies a run's row and gives the copies tags, parameters and metrics: the service has no call for that."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
        row = dict(zip(columns, database.execute("SELECT * FROM runs WHERE id = ?", [run]).fetchone()))
        marks = ", ".join("?" for _ in columns)
        with database:
            for number in range(RUNS):
                row["id"] = str(uuid.uuid4())
                row["display_name"] = f"copy {number}"
                row["created_at"] += 1000
                database.execute(f"INSERT INTO runs VALUES ({marks})", list(row.values()))
                accuracy = 0.95 if number % 100 == 0 else 0.5
                facts = [("t", "team", f"team-{number % 10}", None)]
                facts += [("p", "rows", str(number), number), ("m", "accuracy", str(accuracy), accuracy)]
                for kind, name, content, value in facts:
                    database.execute(
                        "INSERT INTO run_facts (run_id, kind, name, content, number, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                        [row["id"], kind, name, content, value, row["created_at"]],
                    )
