// The list of runs.
import type { CompareRunsResponse, RunSummary } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
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

/** How many runs one comparison takes. */
export const COMPARED = { least: 2, most: 10 };

/** What is not the same in all of the runs. */
export async function compareRuns(runIds: string[], signal: AbortSignal): Promise<CompareRunsResponse> {
  return await lists.compareRuns({ runIds }, { signal });
}
