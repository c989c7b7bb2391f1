import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { RunSummarySchema, WatchRunsResponseSchema } from "../src/gen/flumina/pipelines/v1/run_lists_pb.js";
import { counterparts, diff, folded, type Line, middle } from "../src/model/diff.js";
import { instant } from "../src/model/format.js";
import { RunList } from "../src/model/list.js";
import { at } from "./make.js";

const run = (runId: string, ms: number, message = "") => create(RunSummarySchema, { runId, createdAt: at(ms), message });
const whole = (runs: ReturnType<typeof run>[], nextPageToken = "") => create(WatchRunsResponseSchema, { whole: true, runs, nextPageToken });
const part = (runs: ReturnType<typeof run>[], gone: string[] = []) => create(WatchRunsResponseSchema, { runs, gone });
const ids = (list: RunList) => list.runs.map(({ runId }) => runId).join("");

test("a list takes in what is new, changed and gone, in its order", () => {
  const list = new RunList(50);
  assert.equal(list.known, false);
  list.update(whole([run("c", 3), run("a", 1)]));
  list.update(part([run("d", 4), run("b", 2)]));
  assert.deepEqual([list.known, list.more, ids(list)], [true, false, "dcba"]);
  list.update(part([run("b", 2, "changed")], ["c", "unknown"]));
  assert.equal(ids(list), "dba");
  assert.equal(list.runs[1]?.message, "changed");
  // Of the same time, the greater id is first.
  list.update(part([run("e", 4)]));
  assert.equal(ids(list), "edba");
  list.update(whole([run("z", 9)]));
  assert.equal(ids(list), "z");
});

test("a page holds as many as it may, and none from beyond it", () => {
  const list = new RunList(2);
  list.update(whole([run("d", 4), run("c", 3)], "more"));
  list.update(part([run("a", 1)]));
  assert.equal(ids(list), "dc");
  list.update(part([run("e", 5)]));
  assert.deepEqual([ids(list), list.more, list.thin], ["ed", true, false]);
  list.update(part([], ["e"]));
  assert.equal(list.thin, false);
  list.update(part([], ["d"]));
  assert.equal(list.thin, true);
  const short = new RunList(2);
  short.update(whole([run("b", 2)]));
  short.update(part([run("c", 3), run("a", 1)]));
  assert.deepEqual([ids(short), short.more], ["cb", true]);
});

test("a page that the server ended early is not asked for again", () => {
  const list = new RunList(50);
  list.update(whole([run("d", 4), run("c", 3)], "more"));
  assert.deepEqual([list.more, list.thin], [true, false]);
  list.update(part([], ["d"]));
  assert.equal(list.thin, false);
  list.update(part([], ["c"]));
  assert.equal(list.thin, true);
});

test("a time is written as filters take it", () => {
  assert.equal(instant({ ...at(0), seconds: 1_800_000_000n, nanos: 1000 }), "2027-01-15T08:00:00.000001000Z");
});

const shown = (lines: readonly Line[]) => lines.map(({ kind, text }) => ({ same: " ", removed: "-", added: "+" })[kind] + text);

test("texts differ in as few lines as possible", () => {
  const found = diff("a\nb\nc\nd\ne", "a\nc\nx\nd\ny\ne");
  assert.deepEqual(shown(found), [" a", "-b", " c", "+x", " d", "+y", " e"]);
  assert.deepEqual(found.map(({ numbers }) => numbers.join()), ["1,1", "2,0", "3,2", "0,3", "4,4", "0,5", "5,6"]);
  assert.deepEqual(shown(diff("a", "a")), [" a"]);
  assert.deepEqual(shown(diff("", "a")), ["-", "+a"]);
  assert.deepEqual(shown(diff("a\na", "a\na\na")), [" a", " a", "+a"]);
});

test("every difference leads from the one text to the other", () => {
  let seed = 7;
  const next = (below: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
  for (let round = 0; round < 300; round += 1) {
    const text = () => Array.from({ length: next(12) }, () => "abc"[next(3)]).join("\n");
    const [before, after] = [text(), text()];
    const lines = diff(before, after);
    const of = (not: string) => lines.filter(({ kind }) => kind !== not).map((line) => line.text).join("\n");
    assert.deepEqual([of("added"), of("removed")], [before, after]);
  }
});

test("texts of many lines that are all different are bounded work", () => {
  const text = (name: string) => Array.from({ length: 20_000 }, (_, line) => `${name} ${line}`).join("\n");
  assert.equal(diff(text("a"), text("b")).length, 40_000);
});

test("equal lines far from a difference are folded, and what replaces a line is marked", () => {
  const numbers = Array.from({ length: 20 }, (_, line) => String(line));
  const lines = folded(diff(numbers.join("\n"), numbers.with(10, "ten").join("\n")));
  assert.deepEqual(lines.map((line) => (line.kind === "fold" ? `${line.count} more` : line.text)), [
    "7 more", "7", "8", "9", "10", "ten", "11", "12", "13", "6 more",
  ]);
  const pairs = counterparts(lines);
  assert.equal(pairs.get(lines[4] as Line), lines[5]);
  assert.deepEqual(middle("rate = 0.10", "rate = 0.20"), ["rate = 0.", "1", "0"]);
  assert.deepEqual(middle("aa", "aaa"), ["aa", "", ""]);
  assert.deepEqual(folded(diff("a\nb", "a\nb")), [{ kind: "fold", count: 2 }]);
});
