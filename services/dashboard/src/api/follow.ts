// Keeps a stream open while the page is looked at, and begins it again whenever it breaks.
import { explain, isTemporary } from "./client.js";

/** How long to wait before asking again, in milliseconds: longer each time. */
const PAUSES = [250, 500, 1000, 2000, 5000];

/** How a stream is doing. */
export interface Following {
  /** Why nothing more will come; empty while that is not so. */
  error: string;
  /** Whether the server is being asked again after the connection broke. */
  offline: boolean;
}

/**
 * `read` reads one stream to its end, says that it received something, and answers whether that was all. Calls `changed`
 * at most once per frame of the screen. Returns the function that ends it.
 */
export function follow(
  following: Following,
  read: (signal: AbortSignal, received: () => void) => Promise<boolean>,
  changed: () => void,
): () => void {
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

  const shown = () =>
    new Promise<void>((resolve) => {
      wake = resolve;
    });
  // The server is asked again after this long, or as soon as the page is shown again.
  const pause = async (ms: number) => {
    let timer = 0;
    const over = new Promise<void>((resolve) => {
      timer = window.setTimeout(resolve, ms);
    });
    await Promise.race([over, shown()]);
    clearTimeout(timer);
  };

  const go = async () => {
    let failures = 0;
    const received = () => {
      failures = 0;
      following.offline = false;
      tell();
    };
    for (let finished = false; !stopped && !finished; ) {
      if (document.hidden) {
        await shown();
        continue;
      }
      stream = new AbortController();
      try {
        finished = await read(stream.signal, received);
        if (!finished) await pause(PAUSES[0] as number);
      } catch (error) {
        if (stopped || stream.signal.aborted) continue;
        if (!isTemporary(error)) {
          following.error = explain(error);
          break;
        }
        // A connection may break once without anybody noticing.
        following.offline = failures > 0;
        tell();
        await pause(PAUSES[Math.min(failures, PAUSES.length - 1)] as number);
        failures += 1;
      }
    }
    tell();
  };
  void go();
  return () => {
    stopped = true;
    stream.abort();
    wake();
    cancelAnimationFrame(frame);
    document.removeEventListener("visibilitychange", visibility);
  };
}
