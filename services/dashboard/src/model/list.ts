// The newest runs of a list as they are known now.
import type { RunSummary, WatchRunsResponse } from "../gen/flumina/pipelines/v1/run_lists_pb.js";

export class RunList {
  /** Newest first. */
  runs: RunSummary[] = [];
  /** Whether the first page has been received. */
  known = false;
  /** Whether there are older ones. */
  more = false;
  /** The most runs that it held since the last page; the server may end a page early. */
  private held = 0;

  /** Holds `size` runs at most. */
  constructor(public size: number) {}

  /** Takes in what a watch said. */
  update(said: WatchRunsResponse): void {
    if (said.whole) {
      this.runs = said.runs;
      this.more = said.nextPageToken !== "";
      this.known = true;
      this.held = said.runs.length;
      return;
    }
    const last = this.runs.at(-1);
    const changed = new Map(said.runs.map((run) => [run.runId, run]));
    const gone = new Set(said.gone);
    const kept = this.runs.filter((run) => !changed.has(run.runId) && !gone.has(run.runId));
    // What is older than the page is not on it while there is more.
    const fresh = said.runs.filter((run) => !this.more || !last || newestFirst(run, last) <= 0);
    const all = [...kept, ...fresh].sort(newestFirst);
    this.more ||= all.length > this.size;
    this.runs = all.slice(0, this.size);
    this.held = Math.max(this.held, this.runs.length);
  }

  /** Whether so many runs have gone that the page is to be asked for again. */
  get thin(): boolean {
    return this.more && this.runs.length < this.held / 2;
  }
}

/** The order of the server: by time, then by id. */
function newestFirst(a: RunSummary, b: RunSummary): number {
  const [at, bt] = [a.createdAt, b.createdAt];
  const seconds = Number((bt?.seconds ?? 0n) - (at?.seconds ?? 0n));
  return seconds || (bt?.nanos ?? 0) - (at?.nanos ?? 0) || (a.runId < b.runId ? 1 : a.runId > b.runId ? -1 : 0);
}
