// Where the time of a task went: the bars of the waterfall.
import { type Attempt, type Task, TaskKind } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { State as WorkloadState } from "../gen/flumina/runner/v1/runner_pb.js";
import { millis } from "./format.js";
import { hasEnded, look, type Look } from "./state.js";

export type PhaseKind = "queued" | "environment" | "fetch" | "run" | "store" | "group";

export const PHASE_NAMES: Record<PhaseKind, string> = {
  queued: "queued",
  environment: "environment",
  fetch: "fetching inputs",
  run: "running",
  store: "storing outputs",
  group: "tasks inside",
};

/** A stretch of time, in milliseconds since 1970. */
export interface Phase {
  kind: PhaseKind;
  from: number;
  to: number;
  /** The attempt, from 1; 0 for a group. */
  attempt: number;
  /** How what it belongs to ended, or that it has not. */
  look: Look;
}

/** The phases of all attempts in their order; what goes on now ends `now`. */
export function phases(task: Task, now: number): Phase[] {
  if (task.kind === TaskKind.CONTAINER || task.attempts.length > 0) {
    return task.attempts.flatMap((attempt) => ofAttempt(attempt, now));
  }
  const from = millis(task.startedAt);
  if (from === undefined) return [];
  const to = millis(task.endedAt) ?? (hasEnded(task.state) ? from : now);
  return [{ kind: "group", from, to: Math.max(to, from), attempt: 0, look: look(task.state) }];
}

function ofAttempt(attempt: Attempt, now: number): Phase[] {
  const found: Phase[] = [];
  const launched = millis(attempt.launchedAt);
  if (launched === undefined) return found;
  const end = Math.max(millis(attempt.endedAt) ?? now, launched);
  const add = (kind: PhaseKind, from: number, to: number): number => {
    const until = Math.min(Math.max(to, from), end);
    if (until > from) found.push({ kind, from, to: until, attempt: attempt.number, look: outcome(attempt) });
    return until;
  };
  const started = millis(attempt.startedAt);
  const prepare = Number(attempt.prepareUs) / 1000;
  const collect = Number(attempt.collectUs) / 1000;
  // Inputs are fetched before the program starts.
  const before = started === undefined ? end : Math.max(started - prepare, launched);
  const preparing = millis(attempt.preparingAt);
  let at = launched;
  at = add("queued", at, Math.min(preparing ?? before, before));
  if (preparing !== undefined) at = add("environment", at, before);
  if (started === undefined) return found;
  at = add("fetch", at, started);
  at = add("run", at, attempt.endedAt ? end - collect : end);
  if (attempt.endedAt) add("store", at, end);
  return found;
}

function outcome(attempt: Attempt): Look {
  switch (attempt.state) {
    case WorkloadState.SUCCEEDED:
      return "good";
    case WorkloadState.FAILED:
    case WorkloadState.LOST:
      return "bad";
    case WorkloadState.STOPPED:
    case WorkloadState.STOPPING:
      return "stopped";
    default:
      return "running";
  }
}

/** What a phase is called: of a program that did not end well, that too. */
export function phaseName({ kind, look }: Pick<Phase, "kind" | "look">): string {
  if (kind === "run" && look === "bad") return "running, failed";
  if (kind === "run" && look === "stopped") return "running, stopped";
  return PHASE_NAMES[kind];
}

/** The classes of a phase's bar. The end of an attempt that never came to run stands on its last phase. */
export function barClass({ kind, look }: Pick<Phase, "kind" | "look">, last = false): string {
  if (kind === "run" || kind === "group") return `${kind} ${look}`;
  return last && (look === "bad" || look === "stopped") ? `${kind} ends ${look}` : kind;
}

/** How long something took, all attempts together. */
export interface Total extends Pick<Phase, "kind" | "look"> {
  ms: number;
}

/** How long each phase took, in the order in which they first came; runs by how they ended. */
export function totals(found: readonly Phase[]): Total[] {
  const sums = new Map<string, Total>();
  for (const { kind, look, from, to } of found) {
    const key = phaseName({ kind, look });
    const sum = sums.get(key);
    if (sum) sum.ms += to - from;
    else sums.set(key, { kind, look, ms: to - from });
  }
  return [...sums.values()];
}

/** The time that a chart must show, in milliseconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

/** Round marks for the head of a chart, at most `most` of them, as milliseconds from its beginning. */
export function marks(length: number, most: number): number[] {
  const steps = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5,
    216e5, 432e5, 864e5,
  ];
  const wanted = length / Math.max(most, 1);
  const step = steps.find((size) => size >= wanted) ?? Math.ceil(wanted / 864e5) * 864e5;
  const found: number[] = [];
  for (let at = 0; at <= length; at += step) found.push(at);
  return found;
}
