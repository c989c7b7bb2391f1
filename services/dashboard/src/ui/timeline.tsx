// The tree of tasks whose lines are the waterfall.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { State, TaskKind } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { clock, duration, millis } from "../model/format.js";
import { barClass, marks, type Phase, phaseName, phases, type Span, totals } from "../model/phases.js";
import { retryText, waitsForRetry } from "../model/retry.js";
import { label, type Row, type RunModel } from "../model/run.js";
import { hasEnded } from "../model/state.js";
import { CountsView, countsText, Marked, StateIcon, useNow } from "./common.js";
import { useWindow } from "./virtual.js";

const ROW = 32;
const HEAD = 30;

interface Props {
  model: RunModel;
  version: number;
  /** The task whose drawer is open. */
  selected: string;
  onSelect: (taskId: string) => void;
}

export function Timeline({ model, version, selected, onSelect }: Props) {
  const now = useNow(!model.ended, 250);
  const [toggles, setToggles] = useState<ReadonlyMap<string, boolean>>(new Map());
  const [wanted, setWanted] = useState("");
  const [active, setActive] = useState(selected);
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => model.rows(toggles, wanted), [model, version, toggles, wanted]);
  const span = runSpan(model, now);
  const window = useWindow(scroller, rows.length, ROW, HEAD);
  const at = Math.max(0, rows.findIndex((row) => row.task.taskId === active));

  // A task that a link names is opened to and scrolled to once.
  const wasShown = useRef("");
  useEffect(() => {
    if (!selected || wasShown.current === selected || !model.tasks.has(selected)) return;
    const index = rows.findIndex((row) => row.task.taskId === selected);
    if (index >= 0) {
      wasShown.current = selected;
      setActive(selected);
      window.show(index);
    } else {
      const around = model.ancestry(selected).slice(0, -1);
      setToggles((old) => new Map([...old, ...around.map((task) => [task.taskId, true] as const)]));
    }
  });

  const toggle = (row: Row, open: boolean) => setToggles((old) => new Map(old).set(row.task.taskId, open));
  const moveTo = (index: number) => {
    const row = rows[Math.min(Math.max(index, 0), rows.length - 1)];
    if (!row) return;
    setActive(row.task.taskId);
    window.show(rows.indexOf(row));
  };
  const key = (event: JSX.TargetedKeyboardEvent<HTMLElement>) => {
    const row = rows[at];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? ROW) / ROW) - 2);
    const actions: Record<string, () => void> = {
      ArrowDown: () => moveTo(at + 1),
      ArrowUp: () => moveTo(at - 1),
      PageDown: () => moveTo(at + page),
      PageUp: () => moveTo(at - page),
      Home: () => moveTo(0),
      End: () => moveTo(rows.length - 1),
      ArrowRight: () => (row.hasChildren && !row.open ? toggle(row, true) : row.open && moveTo(at + 1)),
      ArrowLeft: () =>
        row.open ? toggle(row, false) : moveTo(rows.findIndex((other) => other.task.taskId === row.task.parentTaskId)),
      Enter: () => onSelect(row.task.taskId),
      " ": () => onSelect(row.task.taskId),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };

  return (
    <div class="timeline">
      <div class="toolbar">
        <input
          type="search"
          placeholder="Find a task"
          aria-label="Find a task"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
        />
        <Legend />
      </div>
      <div
        ref={scroller}
        class="grid"
        role="treegrid"
        aria-label="Tasks"
        aria-rowcount={rows.length}
        aria-activedescendant={rows[at] ? `task-${rows[at].task.taskId}` : undefined}
        tabIndex={0}
        onKeyDown={key}
      >
        <Ruler span={span} />
        <div class="rows" role="presentation" style={{ height: `${rows.length * ROW}px` }}>
          {rows.slice(window.from, window.to).map((row, index) => (
            <TreeRow
              key={row.task.taskId}
              row={row}
              index={window.from + index}
              active={window.from + index === at}
              selected={row.task.taskId === selected}
              span={span}
              now={now}
              onToggle={() => toggle(row, !row.open)}
              onSelect={() => {
                setActive(row.task.taskId);
                onSelect(row.task.taskId);
              }}
            />
          ))}
        </div>
        {rows.length === 0 ? <p class="empty">{wanted ? "No task has this in its name." : "No tasks yet."}</p> : null}
      </div>
    </div>
  );
}

function runSpan(model: RunModel, now: number): Span {
  const from = millis(model.run?.createdAt) ?? now;
  const to = millis(model.run?.finishedAt) ?? now;
  return { from, to: Math.max(to, from + 1) };
}

/** Classes of swatches with their names. */
const LEGEND: [string, string][] = [
  ["queued", "queued"],
  ["environment", "environment"],
  ["fetch", "fetch inputs"],
  ["run", "run"],
  ["run bad", "failed"],
  ["run stopped", "stopped"],
  ["store", "store outputs"],
];

function Legend() {
  return (
    <ul class="legend" aria-label="Colours of the bars">
      {LEGEND.map(([kind, name]) => (
        <li key={kind}>
          <span class={`swatch ${kind}`} aria-hidden="true" />
          {name}
        </li>
      ))}
    </ul>
  );
}

function Ruler({ span }: { span: Span }) {
  const length = span.to - span.from;
  return (
    <div class="ruler" role="presentation" aria-hidden="true">
      <span class="name">Task</span>
      <span class="axis">
        {marks(length, 7).filter((mark) => mark < 0.95 * length).map((mark) => (
          <span key={mark} class="mark" style={{ left: `${(mark / length) * 100}%` }}>
            {mark === 0 ? "0" : duration(mark)}
          </span>
        ))}
      </span>
      <span class="took">Took</span>
    </div>
  );
}

interface RowProps {
  row: Row;
  index: number;
  active: boolean;
  selected: boolean;
  span: Span;
  now: number;
  onToggle: () => void;
  onSelect: () => void;
}

function TreeRow({ row, index, active, selected, span, now, onToggle, onSelect }: RowProps) {
  const { task } = row;
  const found = phases(task, now);
  const started = millis(task.startedAt);
  const took = started === undefined ? "" : duration((millis(task.endedAt) ?? now) - started);
  return (
    <div
      id={`task-${task.taskId}`}
      class={`row ${active ? "active" : ""} ${selected ? "selected" : ""}`}
      role="row"
      aria-level={row.level}
      aria-posinset={row.position}
      aria-setsize={row.siblings}
      aria-rowindex={index + 1}
      aria-expanded={row.hasChildren ? row.open : undefined}
      aria-selected={selected}
      style={{ top: `${index * ROW}px` }}
      onClick={onSelect}
    >
      <span class="name" role="gridcell" style={{ paddingLeft: `${(row.level - 1) * 18 + 8}px` }}>
        <Twist row={row} onToggle={onToggle} />
        <StateIcon state={task.state} />
        <span class="text" title={task.path}>
          {label(task)}
        </span>
        {task.attempts.length > 1 ? <span class="badge">×{task.attempts.length}</span> : null}
        {row.iterations ? <CountsView counts={row.iterations} /> : null}
      </span>
      <span class="axis" role="gridcell" aria-label={describe(row, found)}>
        <Bars found={found} span={span} />
        <Why row={row} found={found} span={span} now={now} />
      </span>
      <span class="took" role="gridcell">
        {took}
      </span>
    </div>
  );
}

function Twist({ row, onToggle }: { row: Row; onToggle: () => void }) {
  if (!row.hasChildren) return <span class="twist" aria-hidden="true" />;
  return (
    <span
      class={`twist ${row.open ? "open" : ""}`}
      aria-hidden="true"
      onClick={(event) => {
        event.stopPropagation();
        onToggle();
      }}
    >
      <svg viewBox="0 0 16 16">
        <path d="M6 4l4 4-4 4" />
      </svg>
    </span>
  );
}

function Bars({ found, span }: { found: Phase[]; span: Span }) {
  const length = span.to - span.from;
  const percent = (ms: number) => `${Math.min(100, Math.max(0, (ms / length) * 100))}%`;
  return (
    <>
      {found.map((phase, index) => (
        <span
          key={`${phase.attempt}${phase.kind}`}
          class={`bar ${barClass(phase, found[index + 1]?.attempt !== phase.attempt)}`}
          title={`${phaseName(phase)}: ${duration(phase.to - phase.from)}, from ${clock(phase.from)}`}
          style={{ left: percent(phase.from - span.from), width: percent(phase.to - phase.from) }}
        />
      ))}
    </>
  );
}

/** Why there is no bar, or none that moves. */
function Why({ row, found, span, now }: { row: Row; found: Phase[]; span: Span; now: number }) {
  const { task } = row;
  const attempt = task.attempts[task.attempts.length - 1];
  const queued = attempt && attempt.queuePosition > 0 && !hasEnded(task.state);
  let text = "";
  if (waitsForRetry(task)) text = retryText(task, now);
  else if (queued) text = attempt.message || `place ${attempt.queuePosition} in the queue`;
  else if (found.length === 0 && task.kind !== TaskKind.ROOT && task.state !== State.PENDING) text = task.message;
  if (!text) return null;
  // Beside the bar; on it while it waits, since that bar grows to the edge.
  const last = found[found.length - 1];
  const end = (queued ? last?.from : last?.to) ?? span.from;
  const left = Math.min(70, ((end - span.from) / (span.to - span.from)) * 100);
  return (
    <span class="why" style={{ left: `calc(${left}% + 6px)` }} title={text}>
      <Marked text={text} />
    </span>
  );
}

/** A line for those who hear it. */
function describe(row: Row, found: Phase[]): string {
  const parts = totals(found).map((total) => `${phaseName(total)} ${duration(total.ms)}`);
  if (row.iterations) parts.push(`iterations: ${countsText(row.iterations)}`);
  if (row.task.message) parts.push(row.task.message);
  return parts.join("; ");
}
