// Follows a run.
import { runs } from "./client.js";
import { follow, type Following } from "./follow.js";
import { RunModel } from "../model/run.js";

export interface Watched extends Following {
  model: RunModel;
  /** Whether the run, and the first part of its tasks, have been received. */
  known: boolean;
}

/** Calls `changed` at most once per frame of the screen. Returns the function that ends it. */
export function watchRun(runId: string, watched: Watched, changed: () => void): () => void {
  const { model } = watched;
  const read = async (signal: AbortSignal, received: () => void) => {
    for await (const said of runs.watchRun({ runId }, { signal })) {
      model.update(said.run, said.tasks);
      watched.known = true;
      received();
    }
    return model.ended;
  };
  return follow(watched, read, changed);
}
