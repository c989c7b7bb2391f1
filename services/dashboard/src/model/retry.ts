// Tasks that wait between two attempts.
import { State, type Task } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { clock, duration, millis } from "./format.js";

export function waitsForRetry(task: Task): boolean {
  return task.state === State.PENDING && task.retryAt !== undefined;
}

/** `Tries again in 12 s, at 21:05:03.` */
export function retryText(task: Task, now: number): string {
  const at = millis(task.retryAt) ?? now;
  if (at <= now) return "Tries again now.";
  // Whole seconds: what counts down must not flicker.
  return `Tries again in ${duration(Math.ceil((at - now) / 1000) * 1000).replace(/\.0 s$/, " s")}, at ${clock(at)}.`;
}
