// The list of runs.
import type { CompareRunsResponse } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
import type { RunList } from "../model/list.js";
import { lists } from "./client.js";
import { filter } from "./filter.js";
import { follow, type Following } from "./follow.js";

export interface WatchedList extends Following {
  list: RunList;
}

/** Follows the newest `list.size` runs. `state` is the name of a state, or empty for all. */
export function watchRuns(text: string, state: string, watched: WatchedList, changed: () => void): () => void {
  const { list } = watched;
  const read = async (signal: AbortSignal, received: () => void) => {
    for await (const said of lists.watchRuns({ filter: filter(text, state), pageSize: list.size }, { signal })) {
      list.update(said);
      received();
      // Too many are gone: asked again, the server fills the page.
      if (list.thin) break;
    }
    return false;
  };
  return follow(watched, read, changed);
}

/** How many runs one comparison takes. */
export const COMPARED = { least: 2, most: 10 };

/** What is not the same in all of the runs. */
export async function compareRuns(runIds: string[], signal: AbortSignal): Promise<CompareRunsResponse> {
  return await lists.compareRuns({ runIds }, { signal });
}
