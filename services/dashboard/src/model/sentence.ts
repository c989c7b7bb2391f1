// One sentence about what happened.
import { type Run, State, type Task } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { duration, millis, number, plural } from "./format.js";
import { retryText, waitsForRetry } from "./retry.js";
import type { RunModel } from "./run.js";
import { hasEnded } from "./state.js";

/** Text, and names that are set as code. */
export type Part = string | { task: Task } | { code: string };

/** An exception with its place, as the agent words it: `ValueError: text (train.py line 12, in train: code)`. */
export interface Cause {
  /** `ValueError`; the whole first clause where there is no exception. */
  kind: string;
  /** What the exception said. */
  text: string;
  /** `train.py:12`; empty where it is not known. */
  place: string;
  /** The line of code; empty where it is not known. */
  code: string;
}

/** Reads the message of a failed task. */
export function cause(message: string): Cause {
  const rest = message.replace(/^exit code -?\d+; /, "");
  const found = /^(.*) \((\S+) line (\d+), in [^:)]+(?:: (.*))?\)$/s.exec(rest);
  const said = found?.[1] ?? rest;
  const exception = /^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Iteration)|[A-Z]\w+): ?(.*)$/s.exec(said);
  const kind = exception?.[1]?.split(".").pop() ?? said;
  return {
    kind: exception ? kind : message,
    text: exception ? (exception[2] ?? "") : "",
    place: found ? `${found[2]}:${found[3]}` : "",
    code: found?.[4] ?? "",
  };
}

const clip = (text: string): string => (text.length > 160 ? `${text.slice(0, 160)}…` : text);

/** What happened to the run, for the top of its page. */
export function sentence(model: RunModel, now: number): Part[] {
  const run = model.run;
  if (!run) return [];
  const from = millis(run.createdAt) ?? now;
  const took = duration((millis(run.finishedAt) ?? now) - from);
  const programs = model.leaves();
  switch (run.state) {
    case State.SUCCEEDED:
      return succeeded(programs, took);
    case State.FAILED:
      return failed(model, run, took);
    case State.CANCELED:
      return [`Stopped after ${took}.`];
    case State.CANCELING:
      return ["Stopping: ", ...running(programs, now)];
    case State.RUNNING:
      return [`Running for ${took}: `, ...running(programs, now)];
    default:
      return [`Waiting to start for ${took}.`];
  }
}

function succeeded(programs: Task[], took: string): Part[] {
  const cached = programs.filter((task) => task.state === State.CACHED).length;
  const skipped = programs.filter((task) => task.state === State.SKIPPED).length;
  const notes = [cached && `${cached} from the cache`, skipped && `${skipped} skipped`].filter(Boolean).join(", ");
  return [`Succeeded in ${took}: ${plural(programs.length, "task")}${notes ? `, ${notes}` : ""}.`];
}

function failed(model: RunModel, run: Run, took: string): Part[] {
  const task = model.tasks.get(run.failedTaskId);
  if (!task) return [`Failed after ${took}: `, run.message || "no task says why."];
  const { kind, place } = cause(task.message || run.message);
  const end: Part[] = place ? [{ code: clip(kind) }, ", ", { code: place }] : [clip(kind) || task.reason];
  return ["Failed in ", { task }, ` after ${took}: `, ...end, "."];
}

function running(programs: Task[], now: number): Part[] {
  const active = programs.filter((task) => [State.RUNNING, State.CANCELING].includes(task.state));
  const done = programs.filter((task) => hasEnded(task.state)).length;
  const parts: Part[] = [];
  active.slice(0, 2).forEach((task, index) => {
    if (index > 0) parts.push(", ");
    parts.push({ task });
  });
  if (active.length > 2) parts.push(` and ${active.length - 2} more`);
  if (active.length === 0) parts.push(...idle(programs, now));
  parts.push(`; ${number(done)} of ${plural(programs.length, "task")} done.`);
  return parts;
}

/** Why nothing runs: the task that tries again first, if one does. */
function idle(programs: Task[], now: number): Part[] {
  const at = (task: Task) => millis(task.retryAt) ?? now;
  const [first] = programs.filter(waitsForRetry).sort((a, b) => at(a) - at(b));
  if (!first) return ["nothing runs at this moment"];
  return [{ task: first }, ` failed and ${retryText(first, now).replace("Tries", "tries").replace(/\.$/, "")}`];
}

/** The sentence as plain text, for the title and for tests. */
export function plainText(parts: readonly Part[]): string {
  return parts.map((part) => (typeof part === "string" ? part : "task" in part ? part.task.path : part.code)).join("");
}
