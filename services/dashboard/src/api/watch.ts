// Follows a run: one stream while the page is looked at, begun again whenever it breaks.
import { explain, isTemporary, runs } from "./client.js";
import { RunModel } from "../model/run.js";

/** How long to wait before asking again, in milliseconds: longer each time. */
const PAUSES = [250, 500, 1000, 2000, 5000];

export interface Watched {
  model: RunModel;
  /** Whether the run, and the first part of its tasks, have been received. */
  known: boolean;
  /** Why nothing more will come; empty while that is not so. */
  error: string;
  /** Whether the server is being asked again after the connection broke. */
  offline: boolean;
}

/** Calls `changed` at most once per frame of the screen. Returns the function that ends it. */
export function watchRun(runId: string, watched: Watched, changed: () => void): () => void {
  const { model } = watched;
  let stopped = false;
  let stream = new AbortController();
  let wake = () => {};
  let frame = 0;
  const tell = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      changed();
    });
  };
  // A browser has six connections per server: a page that nobody sees must not hold one.
  const visibility = () => {
    if (document.hidden) stream.abort();
    else wake();
  };
  document.addEventListener("visibilitychange", visibility);

  const sleep = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const follow = async () => {
    let failures = 0;
    for (let finished = false; !stopped && !finished; ) {
      if (document.hidden) {
        await sleep(1 << 30);
        continue;
      }
      stream = new AbortController();
      try {
        for await (const said of runs.watchRun({ runId }, { signal: stream.signal })) {
          model.update(said.run, said.tasks);
          failures = 0;
          watched.offline = false;
          watched.known = true;
          tell();
        }
        finished = model.ended;
        if (!finished) await sleep(PAUSES[0] as number);
      } catch (error) {
        if (stopped || stream.signal.aborted) continue;
        if (!isTemporary(error)) {
          watched.error = explain(error);
          break;
        }
        // A connection may break once without anybody noticing.
        watched.offline = failures > 0;
        tell();
        await sleep(PAUSES[Math.min(failures, PAUSES.length - 1)] as number);
        failures += 1;
      }
    }
    tell();
  };
  void follow();
  return () => {
    stopped = true;
    stream.abort();
    wake();
    cancelAnimationFrame(frame);
    document.removeEventListener("visibilitychange", visibility);
  };
}
