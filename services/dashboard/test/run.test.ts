import assert from "node:assert/strict";
import { test } from "node:test";

import { State, TaskKind } from "../src/gen/flumina/pipelines/v1/pipelines_pb.js";
import { graph, mostTelling } from "../src/model/graph.js";
import { label } from "../src/model/run.js";
import { plainText, sentence, cause } from "../src/model/sentence.js";
import { at, BEGIN, model, task } from "./make.js";

const DAG = { kind: TaskKind.DAG };

function loop(count: number, state: (index: number) => State = () => State.SUCCEEDED) {
  const iterations = Array.from({ length: count }, (_, index) => [
    task(`loop[${index}]`, { ...DAG, parentTaskId: "loop", state: state(index) }),
    task(`loop[${index}]/step`, { state: state(index) }),
  ]);
  return [task("loop", DAG), ...iterations.flat()];
}

test("groups are open and loops folded with counts", () => {
  const made = model([task("prepare", DAG), task("prepare/fetch"), ...loop(12, (index) => (index < 3 ? State.RUNNING : State.SUCCEEDED))]);
  const rows = made.rows(new Map());
  assert.deepEqual(rows.map((row) => `${row.level} ${label(row.task)}`), ["1 prepare", "2 fetch", "1 loop"]);
  assert.deepEqual(rows[2]?.iterations, { running: 3, good: 9 });
  assert.equal(rows[2]?.open, false);
});

test("the way to the task that failed is open", () => {
  const made = model(loop(30, (index) => (index === 17 ? State.FAILED : State.SUCCEEDED)), {
    state: State.FAILED,
    failedTaskId: "loop[17]/step",
  });
  const rows = made.rows(new Map());
  const open = rows.filter((row) => row.open).map((row) => row.task.path);
  assert.deepEqual(open, ["loop", "loop[17]"]);
  assert.equal(rows.length, 1 + 30 + 1);
});

test("iterations are in the order of their numbers, whatever the order of their news", () => {
  const made = model(loop(12).reverse());
  const rows = made.rows(new Map([["loop", true]]));
  assert.deepEqual(rows.slice(1).map((row) => label(row.task)), Array.from({ length: 12 }, (_, index) => `loop[${index}]`));
});

test("a search shows what it found and the groups around it", () => {
  const made = model([task("a", DAG), task("a/train"), task("a/test"), task("b")]);
  assert.deepEqual(made.rows(new Map([["a", false]]), "TRAIN").map((row) => row.task.path), ["a", "a/train"]);
});

test("what is told again replaces what was known", () => {
  const made = model([task("a", { state: State.RUNNING })]);
  made.update(undefined, [task("a", { state: State.FAILED })]);
  assert.equal(made.rows(new Map()).length, 1);
  assert.equal(made.rows(new Map())[0]?.task.state, State.FAILED);
});

test("the sentence of a failure names task, time, exception and place", () => {
  const made = model(
    [task("train", { state: State.FAILED, message: 'exit code 1; ValueError: bad (see log) (train.py line 12, in fit: raise ValueError("x"))' })],
    { state: State.FAILED, failedTaskId: "train", finishedAt: at(180_000) },
  );
  assert.equal(plainText(sentence(made, BEGIN)), "Failed in train after 3 m: ValueError, train.py:12.");
});

test("the cause is found in what agents say, and in what others say", () => {
  assert.deepEqual(cause("exit code 1; sklearn.NotFittedError: call fit (model.py line 3, in f: m.predict(x))"), {
    kind: "NotFittedError",
    text: "call fit",
    place: "model.py:3",
    code: "m.predict(x)",
  });
  assert.deepEqual(cause("exit code 3; last line of the log: disk is full"), {
    kind: "exit code 3; last line of the log: disk is full",
    text: "",
    place: "",
    code: "",
  });
  assert.equal(cause("exit code 1; KeyError: 'x' (a.py line 1, in <module>)").place, "a.py:1");
  assert.equal(cause("").kind, "");
});

test("the sentence of a success counts programs, what was cached and what was skipped", () => {
  const made = model(
    [task("g", DAG), task("g/a", { state: State.CACHED }), task("b"), task("c", { state: State.SKIPPED })],
    { state: State.SUCCEEDED, finishedAt: at(2500) },
  );
  assert.equal(plainText(sentence(made, BEGIN)), "Succeeded in 2.5 s: 3 tasks, 1 from the cache, 1 skipped.");
});

test("while it runs, the sentence says what is going on", () => {
  const made = model([task("a"), task("b", { state: State.RUNNING }), task("c", { state: State.PENDING })]);
  assert.equal(plainText(sentence(made, BEGIN + 4000)), "Running for 4.0 s: b; 1 of 3 tasks done.");
});

test("a graph puts every task behind those that it waits for", () => {
  const made = model([
    task("a"),
    task("b", { dependencies: ["a"] }),
    task("c", { dependencies: ["a"] }),
    task("d", { dependencies: ["b", "c"] }),
  ]);
  const { nodes, edges } = graph(made, "root");
  assert.equal(edges.length, 4);
  for (const { from, to } of edges) assert.ok(from.x < to.x, `${from.key} before ${to.key}`);
  const places = new Set(nodes.map((node) => `${node.x} ${node.y}`));
  assert.equal(places.size, nodes.length, "no two tasks in one place");
});

test("the graph of a loop is drawn once for all iterations", () => {
  const made = model(loop(50, (index) => (index === 20 ? State.FAILED : State.SUCCEEDED)));
  const { nodes } = graph(made, "loop");
  assert.equal(nodes.length, 1);
  assert.deepEqual(nodes[0]?.counts, { good: 49, bad: 1 });
  assert.equal(mostTelling(nodes[0]!).path, "loop[20]/step");
});

test("iterations that have not begun, and those of a loop over one program, are one task of the graph", () => {
  const begun = model([...loop(3), task("loop[3]", { ...DAG, parentTaskId: "loop", state: State.PENDING })]);
  assert.deepEqual(graph(begun, "loop").nodes.map((node) => node.label), ["step"]);
  const programs = [0, 1, 2].map((index) => task(`loop[${index}]`, { parentTaskId: "loop" }));
  const { nodes } = graph(model([task("loop", DAG), ...programs]), "loop");
  assert.deepEqual(nodes.map((node) => [node.label, node.counts]), [["loop", { good: 3 }]]);
});

test("a long chain and a circle do not break the layout", () => {
  const chain = Array.from({ length: 5000 }, (_, index) => task(`t${index}`, { dependencies: index ? [`t${index - 1}`] : [] }));
  assert.equal(graph(model(chain), "root").nodes.length, 5000);
  const circle = graph(model([task("a", { dependencies: ["b"] }), task("b", { dependencies: ["a"] })]), "root");
  assert.equal(circle.nodes.length, 2);
});

test("ten thousand tasks become rows quickly", () => {
  const made = model(loop(5000));
  const started = performance.now();
  const rows = made.rows(new Map([["loop", true]]));
  assert.equal(rows.length, 5001);
  // Far above what it takes, far below what a square of it would.
  assert.ok(performance.now() - started < 1000);
});

test("a run that waits for another attempt says when it comes", () => {
  const waits = task("b", { state: State.PENDING, retryAt: at(65_000) });
  const later = task("a", { state: State.PENDING, retryAt: at(90_000) });
  const found = plainText(sentence(model([later, waits, task("c")]), BEGIN + 4000));
  assert.match(found, /^Running for 4\.0 s: b failed and tries again in 1 m 1 s, at \d.*; 1 of 3 tasks done\.$/);
  assert.match(plainText(sentence(model([waits]), BEGIN + 65_000)), /b failed and tries again now; 0 of 1 task done/);
});
