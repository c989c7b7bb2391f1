import assert from "node:assert/strict";
import { test } from "node:test";

import { State, TaskKind } from "../src/gen/flumina/pipelines/v1/pipelines_pb.js";
import { State as WorkloadState } from "../src/gen/flumina/runner/v1/runner_pb.js";
import { barClass, marks, phaseName, phases, totals } from "../src/model/phases.js";
import { at, BEGIN, task } from "./make.js";

const shown = (found: ReturnType<typeof phases>) => found.map((phase) => [phase.kind, phase.from - BEGIN, phase.to - BEGIN]);

test("an attempt is queued, prepared, run and stored", () => {
  const done = task("a", {
    attempts: [
      {
        number: 1,
        state: WorkloadState.SUCCEEDED,
        launchedAt: at(0),
        preparingAt: at(100),
        startedAt: at(300),
        endedAt: at(1000),
        prepareUs: 50_000n,
        collectUs: 20_000n,
      },
    ],
  });
  assert.deepEqual(shown(phases(done, BEGIN + 5000)), [
    ["queued", 0, 100],
    ["environment", 100, 250],
    ["fetch", 250, 300],
    ["run", 300, 980],
    ["store", 980, 1000],
  ]);
});

test("what goes on now ends now", () => {
  const attempt = { number: 1, launchedAt: at(0), state: WorkloadState.QUEUED };
  assert.deepEqual(shown(phases(task("a", { attempts: [attempt] }), BEGIN + 70)), [["queued", 0, 70]]);
  const preparing = { ...attempt, state: WorkloadState.PREPARING, preparingAt: at(10) };
  assert.deepEqual(shown(phases(task("a", { attempts: [preparing] }), BEGIN + 70)), [
    ["queued", 0, 10],
    ["environment", 10, 70],
  ]);
  const running = { ...preparing, state: WorkloadState.RUNNING, startedAt: at(30) };
  assert.deepEqual(shown(phases(task("a", { attempts: [running] }), BEGIN + 70)).pop(), ["run", 30, 70]);
});

test("no time runs backwards, whatever the clocks said", () => {
  const odd = task("a", {
    attempts: [{ number: 1, launchedAt: at(100), preparingAt: at(50), startedAt: at(90), endedAt: at(95), prepareUs: 1_000_000n, collectUs: 9_000_000n }],
  });
  for (const phase of phases(odd, BEGIN)) assert.ok(phase.to >= phase.from, phase.kind);
});

test("attempts follow each other, groups are one bar, what did not run is none", () => {
  const twice = task("a", {
    attempts: [
      { number: 1, state: WorkloadState.FAILED, launchedAt: at(0), startedAt: at(10), endedAt: at(20) },
      { number: 2, state: WorkloadState.SUCCEEDED, launchedAt: at(500), startedAt: at(510), endedAt: at(600) },
    ],
  });
  assert.deepEqual(
    totals(phases(twice, BEGIN + 900)).map((total) => [phaseName(total), barClass(total), total.ms]),
    [["queued", "queued", 20], ["running, failed", "run bad", 10], ["running", "run good", 90]],
  );
  assert.deepEqual(phases(twice, BEGIN + 900).map((phase) => phase.look), ["bad", "bad", "good", "good"]);
  const group = task("g", { kind: TaskKind.DAG, startedAt: at(5), state: State.RUNNING });
  assert.deepEqual(shown(phases(group, BEGIN + 50)), [["group", 5, 50]]);
  assert.deepEqual(phases(task("s", { state: State.SKIPPED }), BEGIN), []);
});

test("an attempt that ended before its program ran says so on its last phase", () => {
  const attempt = { number: 1, state: WorkloadState.STOPPED, launchedAt: at(0), preparingAt: at(10), endedAt: at(20) };
  const found = phases(task("a", { attempts: [attempt] }), BEGIN + 70);
  assert.deepEqual(found.map((phase, index) => barClass(phase, index === found.length - 1)), ["queued", "environment ends stopped"]);
});

test("marks are round and few", () => {
  assert.deepEqual(marks(8000, 7), [0, 2000, 4000, 6000, 8000]);
  assert.ok(marks(40 * 86_400_000, 7).length <= 8);
  assert.deepEqual(marks(0, 7), [0]);
});
