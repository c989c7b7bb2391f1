import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, duration, number } from "../src/model/format.js";
import { clean, LogText, MOST_LINES, pieces, search } from "../src/model/log.js";
import { inline, markdown } from "../src/model/markdown.js";
import { area, classification, scalars, slices } from "../src/model/metrics.js";
import { condition, filter, withCondition } from "../src/api/filter.js";
import { changes, fields } from "../src/model/parameters.js";
import { formatRoute, parseRoute } from "../src/route.js";

const encode = (text: string) => new TextEncoder().encode(text);

test("a log is the same whatever the pieces it comes in", () => {
  const text = "first\nzwölf ✓\r\n\u001b[31mred\u001b[0m\n10%\r20%\r100%\nlast without end";
  const expected = ["first", "zwölf ✓", "red", "100%", "last without end"];
  const data = encode(text);
  for (let size = 1; size <= data.length; size += 1) {
    const log = new LogText();
    for (let at = 0; at < data.length; at += size) log.push(data.subarray(at, at + size));
    assert.deepEqual(log.lines, expected, `pieces of ${size}`);
  }
});

test("a line that is not finished is shown and then replaced", () => {
  const log = new LogText();
  log.push(encode("load"));
  assert.deepEqual(log.lines, ["load"]);
  log.push(encode("ing\nnext"));
  assert.deepEqual(log.lines, ["loading", "next"]);
});

test("a log without end stays bounded and says what it dropped", () => {
  const log = new LogText();
  for (let round = 0; round < 5; round += 1) log.push(encode("x\n".repeat(MOST_LINES / 4)));
  assert.equal(log.lines.length, MOST_LINES);
  assert.equal(log.dropped, MOST_LINES / 4);
  assert.ok(clean("y".repeat(1e6)).length < 21_000);
});

test("a search ignores case and cuts lines where it found something", () => {
  assert.deepEqual(search(["Epoch 1", "done", "EPOCH 2"], "epoch"), [0, 2]);
  assert.deepEqual(search(["a"], ""), []);
  assert.deepEqual(pieces("Epoch: epoch", "epoch"), ["", "Epoch", ": ", "epoch", ""]);
});

test("durations, sizes and numbers read well", () => {
  assert.deepEqual([0, 340, 2400, 59_960, 192_000, 7_500_000, 273_600_000, 3_600_000].map(duration), [
    "0 ms", "340 ms", "2.4 s", "1 m", "3 m 12 s", "2 h 5 m", "3 d 4 h", "1 h",
  ]);
  assert.deepEqual([0, 1023, 1536, 5 << 20].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]);
  assert.deepEqual([0.934, 12, 1234567, 0.1 + 0.2, 1e-9].map(number), ["0.934", "12", "1\u202f234\u202f567", "0.3", "1.000e-9"]);
});

test("markdown becomes blocks, and nothing of it becomes markup or leaves the web", () => {
  const blocks = markdown("# T\n\ntext `x` **b**\n\n- a\n- b\n\n| h |\n|---|\n| c |\n\n```\n<b>\n```\n<script>x</script>\n\n[l](javascript:x) [m](https://x.y)");
  assert.deepEqual(blocks.map((block) => block.kind), ["heading", "paragraph", "list", "table", "code", "paragraph", "paragraph"]);
  assert.deepEqual(blocks[5], { kind: "paragraph", inline: [{ kind: "text", text: "<script>x</script>" }] });
  assert.deepEqual(inline("[l](javascript:x)"), [{ kind: "text", text: "l" }]);
  assert.equal(inline("[m](https://x.y)")[0]?.kind, "link");
});

test("metrics are read in the shapes that the SDK writes", () => {
  assert.deepEqual(scalars({ accuracy: 0.9, note: "x" }), [["accuracy", 0.9]]);
  const roc = [0, 0.5, 1].map((rate) => ({ confidenceThreshold: 1 - rate, recall: rate, falsePositiveRate: rate }));
  assert.equal(area(classification({ confidenceMetrics: roc }).roc), 0.5);
  assert.equal(classification({ confidenceMetrics: { list: roc } }).roc.length, 3);
  const matrix = { annotationSpecs: [{ displayName: "cat" }, { displayName: "dog" }], rows: [{ row: [3, 1] }, { row: [0, 5] }] };
  assert.deepEqual(classification({ confusionMatrix: { struct: matrix } }).confusion, {
    labels: ["cat", "dog"],
    rows: [[3, 1], [0, 5]],
  });
  assert.equal(slices({ evaluationSlices: [{ slice: "eu", confidenceMetrics: roc }] })[0]?.[0], "eu");
  for (const broken of [{ confusionMatrix: 3 }, { confidenceMetrics: "x" }, { confidenceMetrics: [{ recall: "a" }] }, {}]) {
    assert.deepEqual(classification(broken as never), { roc: [], confusion: undefined });
  }
});

test("a filter is a part of a name, or a condition", () => {
  assert.equal(filter("", ""), "archived = false");
  assert.equal(filter('my "run"', "FAILED"), 'archived = false AND state = FAILED AND name : "my \\"run\\""');
  assert.equal(filter("metric.accuracy > 0.9", ""), "archived = false AND metric.accuracy > 0.9");
  assert.equal(filter("archived = true", ""), "archived = true");
  assert.equal(filter('tag."my team" = "a b"', ""), 'archived = false AND tag."my team" = "a b"');
  assert.equal(filter("tag.'a\\'b' : x", ""), "archived = false AND tag.'a\\'b' : x");
});

test("places survive the URL", () => {
  for (const hash of [
    "#/runs",
    "#/runs?name=a+b&state=FAILED",
    "#/runs/details/abc",
    "#/runs/details/abc?view=graph&group=7&task=12&panel=logs",
  ]) {
    assert.equal(formatRoute(parseRoute(hash)), hash);
  }
  const odd = parseRoute("#/runs/details/%E0%A4%A?view=nothing&panel=zzz");
  assert.ok(odd.page === "run" && odd.view === "timeline" && odd.panel === "overview");
  assert.equal(parseRoute("").page, "runs");
});

test("conditions are written as the server reads them, and join what is there", () => {
  assert.equal(condition("metric", " accuracy ", ">=", "0.9"), "metric.accuracy >= 0.9");
  assert.equal(condition("tag", "team", "=", "vision and more"), 'tag.team = "vision and more"');
  assert.equal(condition("pipeline", "unused", ":", "breast-cancer"), "pipeline : breast-cancer");
  assert.equal(condition("param", "rate", "!=", 'a "b"'), 'param.rate != "a \\"b\\""');
  assert.equal(condition("tag", "x", "=", "and"), 'tag.x = "and"');
  assert.equal(condition("metric", "top 5", ">", "0.5"), 'metric."top 5" > 0.5');
  assert.equal(condition("tag", 'a"b\\', "=", "two\nlines"), 'tag."a\\"b\\\\" = "two\nlines"');
  assert.equal(withCondition("", "state = FAILED"), "state = FAILED");
  assert.equal(withCondition("fail", "tag.a = b"), 'name : "fail" AND tag.a = b');
  assert.equal(withCondition("tag.a = b", "tag.c = d"), "tag.a = b AND tag.c = d");
});

test("only parameters that were changed are sent, and those of another kind are refused", () => {
  const known = fields({ rate: 0.5, name: "a", on: true, list: [1, 2] });
  assert.deepEqual(known.map(({ name, kind, text }) => [name, kind, text]), [
    ["list", "JSON", "[1,2]"],
    ["name", "text", "a"],
    ["on", "true or false", "true"],
    ["rate", "number", "0.5"],
  ]);
  assert.deepEqual(changes(known, {}), { values: {}, wrong: {} });
  assert.deepEqual(changes(known, { rate: "0.5", name: "7", list: "[3]" }).values, { name: "7", list: [3] });
  const { values, wrong } = changes(known, { rate: '"0.5"', on: "yes", list: "[", name: "" });
  assert.deepEqual(values, { name: "" });
  assert.deepEqual(Object.keys(wrong).sort(), ["list", "on", "rate"]);
});

test("the place of a comparison is a URL", () => {
  const route = { page: "compare" as const, runIds: ["a", "b c"] };
  assert.equal(formatRoute(route), "#/compare?runlist=a,b%20c");
  assert.deepEqual(parseRoute(formatRoute(route)), route);
  assert.deepEqual(parseRoute("#/compare?runlist=a,,a"), { page: "compare", runIds: ["a"] });
});
