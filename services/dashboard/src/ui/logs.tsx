// What a task wrote, as it writes it.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { isNotFound, runs } from "../api/client.js";
import { follow, type Following } from "../api/follow.js";
import type { Task } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { bytes, plural } from "../model/format.js";
import { LogText, pieces, search } from "../model/log.js";
import { hasEnded } from "../model/state.js";
import { Notice } from "./common.js";
import { useWindow } from "./virtual.js";

const LINE = 18;
/** Bytes at the end of a log that are read at first. */
const TAIL = 4 << 20;

interface Followed extends Following {
  text: LogText;
  complete: boolean;
  /** The byte that the text begins with. */
  start: bigint | undefined;
}

/** Streams the log of an attempt; goes on where it was when the connection breaks or the page was hidden. */
function useLog(runId: string, taskId: string, attempt: number, tail: number): [Followed, number] {
  const [version, setVersion] = useState(0);
  const followed = useMemo<Followed>(
    () => ({ text: new LogText(), error: "", offline: false, complete: false, start: undefined }),
    [runId, taskId, attempt, tail],
  );
  useEffect(() => {
    let offset: bigint | undefined;
    let reading = attempt;
    const read = async (signal: AbortSignal, received: () => void) => {
      // Goes on where it was.
      const from = offset === undefined ? { attempt, tailBytes: BigInt(tail) } : { attempt, offset };
      try {
        for await (const part of runs.readLogs({ runId, task: taskId, follow: true, ...from }, { signal })) {
          if (reading !== part.attempt && reading !== 0) followed.text.mark(`── attempt ${part.attempt} ──`);
          reading = part.attempt;
          followed.start ??= part.offset;
          followed.text.push(part.data);
          offset = part.offset + BigInt(part.data.length);
          received();
        }
      } catch (error) {
        // A task that was never started has none.
        if (!isNotFound(error)) throw error;
      }
      followed.complete = true;
      return true;
    };
    return follow(followed, read, () => setVersion((old) => old + 1));
  }, [followed, runId, taskId, attempt, tail]);
  return [followed, version];
}

interface Props {
  task: Task;
  attempt: number;
}

export function LogView({ task, attempt }: Props) {
  const [tail, setTail] = useState(TAIL);
  const [followed, version] = useLog(task.runId, task.taskId, attempt, tail);
  const { text } = followed;
  const [wanted, setWanted] = useState("");
  const [follow, setFollow] = useState(true);
  const [hit, setHit] = useState(0);
  const scroller = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const hits = useMemo(() => search(text.lines, wanted), [text, version, wanted]);
  const window = useWindow(scroller, text.lines.length, LINE);
  const at = hits.length > 0 ? Math.min(hit, hits.length - 1) : -1;

  useEffect(() => {
    const element = scroller.current;
    if (follow && element && !wanted) element.scrollTop = element.scrollHeight;
  }, [version, follow, wanted]);

  const goTo = (index: number) => {
    if (hits.length === 0) return;
    const next = (index + hits.length) % hits.length;
    setHit(next);
    setFollow(false);
    window.show(hits[next] as number);
  };
  const searchKey = (event: JSX.TargetedKeyboardEvent<HTMLInputElement>) => {
    if (event.key === "Enter") {
      event.preventDefault();
      goTo(at + (event.shiftKey ? -1 : 1));
    } else if (event.key === "Escape" && wanted) {
      event.stopPropagation();
      setWanted("");
    }
  };
  const onSearch = (value: string) => {
    setWanted(value);
    setHit(0);
    const first = search(text.lines, value)[0];
    if (first !== undefined) {
      setFollow(false);
      window.show(first);
    }
  };
  // Scrolling up is a wish to read; scrolling to the end is one to follow.
  const scrolled = () => {
    const element = scroller.current;
    if (!element) return;
    const end = element.scrollHeight - element.clientHeight - element.scrollTop < LINE;
    if (end !== follow && !wanted) setFollow(end);
  };

  return (
    <div class="logs">
      <div class="toolbar">
        <input
          ref={field}
          type="search"
          placeholder="Search the log"
          aria-label="Search the log"
          value={wanted}
          onInput={(event) => onSearch(event.currentTarget.value)}
          onKeyDown={searchKey}
        />
        {wanted ? (
          <span class="hits" role="status">
            {hits.length > 0 ? `${at + 1} of ${hits.length}` : "nothing found"}
          </span>
        ) : null}
        <label class="check">
          <input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} />
          Follow
        </label>
      </div>
      {followed.error ? <Notice kind="bad">{followed.error}</Notice> : null}
      {text.dropped > 0 ? <p class="dropped">{plural(text.dropped, "earlier line")} not shown.</p> : null}
      {followed.start ? (
        <p class="dropped">
          This is the end of a long log; {bytes(Number(followed.start))} come before it.{" "}
          <button type="button" class="link" onClick={() => setTail(0)}>
            Read it whole
          </button>
        </p>
      ) : null}
      <div
        ref={scroller}
        class="lines"
        role="log"
        aria-label={`Log of ${task.name}`}
        aria-live="off"
        tabIndex={0}
        onScroll={scrolled}
      >
        <div class="all" style={{ height: `${text.lines.length * LINE}px` }}>
          {text.lines.slice(window.from, window.to).map((line, index) => {
            const number = window.from + index;
            return (
              <div
                key={number}
                class={`line ${hits[at] === number ? "hit" : ""}`}
                style={{ top: `${number * LINE}px` }}
              >
                <span class="no" aria-hidden="true">
                  {text.dropped + number + 1}
                </span>
                <Line text={line} wanted={wanted} />
              </div>
            );
          })}
        </div>
        {text.lines.length === 0 ? <p class="empty">{emptyText(task, followed.complete || followed.error !== "")}</p> : null}
      </div>
    </div>
  );
}

function Line({ text, wanted }: { text: string; wanted: string }) {
  return (
    <span class="text">
      {pieces(text, wanted).map((piece, index) => (index % 2 ? <mark key={index}>{piece}</mark> : piece))}
    </span>
  );
}

function emptyText(task: Task, complete: boolean): string {
  if (task.attempts.length === 0) {
    return hasEnded(task.state) ? "It did not run, so it wrote nothing." : "It has not started yet.";
  }
  return complete ? "It wrote nothing." : "Nothing written yet.";
}

/** The last lines of a log, for the cause of a failure. */
export function LogTail({ runId, taskId, lines }: { runId: string; taskId: string; lines: number }) {
  const [followed] = useLog(runId, taskId, 0, 32 << 10);
  const shown = followed.text.lines.filter((line) => line.trim()).slice(-lines);
  if (shown.length === 0) return null;
  return (
    <pre class="tail" aria-label="The end of the log">
      {shown.join("\n")}
    </pre>
  );
}
