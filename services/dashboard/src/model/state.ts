// States as the page names and colours them.
import { State } from "../gen/flumina/pipelines/v1/pipelines_pb.js";

/** What a state looks like: also the name of its CSS class. */
export type Look = "waiting" | "running" | "good" | "cached" | "skipped" | "bad" | "stopped";

const LOOKS: Record<State, [Look, string]> = {
  [State.STATE_UNSPECIFIED]: ["waiting", "Unknown"],
  [State.PENDING]: ["waiting", "Waiting"],
  [State.RUNNING]: ["running", "Running"],
  [State.SUCCEEDED]: ["good", "Succeeded"],
  [State.SKIPPED]: ["skipped", "Skipped"],
  [State.FAILED]: ["bad", "Failed"],
  [State.CANCELING]: ["stopped", "Stopping"],
  [State.CANCELED]: ["stopped", "Stopped"],
  [State.CACHED]: ["cached", "Cached"],
};

const UNKNOWN: [Look, string] = ["waiting", "Unknown"];

export const look = (state: State): Look => (LOOKS[state] ?? UNKNOWN)[0];
export const stateName = (state: State): string => (LOOKS[state] ?? UNKNOWN)[1];

export function hasEnded(state: State): boolean {
  return ![State.STATE_UNSPECIFIED, State.PENDING, State.RUNNING, State.CANCELING].includes(state);
}

/** From the name of a state, such as the keys of `task_counts`. */
export function stateOf(name: string): State {
  return State[name as keyof typeof State] ?? State.STATE_UNSPECIFIED;
}
