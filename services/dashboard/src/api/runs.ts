// The list of runs.
import type { RunSummary } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
import { lists } from "./client.js";
import { filter } from "./filter.js";

export interface RunPage {
  runs: RunSummary[];
  next: string;
}

const PAGE = 50;
/** A page of runs, newest first. `state` is the name of a state, or empty for all. */
export async function listRuns(text: string, state: string, pageToken: string, signal: AbortSignal): Promise<RunPage> {
  const request = { filter: filter(text, state), pageSize: PAGE, pageToken };
  const { runs, nextPageToken } = await lists.listRuns(request, { signal });
  return { runs, next: nextPageToken };
}
