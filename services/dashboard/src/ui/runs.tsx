// The list of runs.
import { useEffect, useMemo, useState } from "preact/hooks";

import { condition, withCondition } from "../api/filter.js";
import { COMPARED, type WatchedList, watchRuns } from "../api/runs.js";
import type { RunSummary } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
import { duration, fullTime, instant, millis, number, when } from "../model/format.js";
import { RunList } from "../model/list.js";
import { hasEnded } from "../model/state.js";
import type { RunsRoute } from "../route.js";
import { Empty, go, Marked, Notice, Offline, StatePill, useNow, useTitle } from "./common.js";
import { ConditionForm } from "./conditions.js";
import { linkTo } from "./run.js";

const STATES: [string, string][] = [
  ["", "All"],
  ["RUNNING", "Running"],
  ["FAILED", "Failed"],
  ["SUCCEEDED", "Succeeded"],
  ["CANCELED", "Stopped"],
];
const TYPING = 200;
/** Runs that are shown at first, and how many more at each wish; the server's page has at most `MOST`. */
const PAGE = 50;
const MOST = 1000;

/** The list as it is known now, and the function that shows more of it. */
function useRuns(route: RunsRoute): [WatchedList, () => void] {
  const [size, setSize] = useState(PAGE);
  const watched = useMemo<WatchedList>(() => ({ list: new RunList(PAGE), error: "", offline: false }), [route.name, route.state]);
  const [, setVersion] = useState(0);
  useEffect(() => setSize(watched.list.size), [watched]);
  useEffect(() => watchRuns(route.name, route.state, watched, () => setVersion((old) => old + 1)), [watched, size]);
  const more = () => {
    // What is shown stays until the longer page is there.
    watched.list.size = Math.min(2 * watched.list.size, MOST);
    setSize(watched.list.size);
  };
  return [watched, more];
}

export function RunsPage({ route }: { route: RunsRoute }) {
  useTitle("Runs");
  const [{ list, error, offline }, more] = useRuns(route);
  const [name, setName] = useState(route.name);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const now = useNow(list.runs.some((run) => !hasEnded(run.state)));

  useEffect(() => setName(route.name), [route.name]);
  useEffect(() => {
    if (name === route.name) return;
    const timer = setTimeout(() => go({ ...route, name }, true), TYPING);
    return () => clearTimeout(timer);
  }, [name, route]);

  const add = (text: string) => go({ ...route, name: withCondition(name, text) });
  const choose = (runId: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(runId);
    else next.delete(runId);
    setChosen(next);
  };
  return (
    <main class="runs">
      <div class="head">
        <h1>Runs</h1>
      </div>
      <div class="toolbar">
        <input
          type="search"
          placeholder="Name, or metric.accuracy > 0.9"
          title="A part of the name, or conditions on state, name, pipeline, tag.KEY, param.NAME, metric.NAME, joined by AND"
          aria-label="Filter by name or condition"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <div class="choices" role="group" aria-label="Filter by state">
          {STATES.map(([state, text]) => (
            <button
              key={state}
              type="button"
              aria-pressed={route.state === state}
              onClick={() => go({ ...route, state }, true)}
            >
              {text}
            </button>
          ))}
        </div>
        <ConditionForm onAdd={add} />
        <span class="space" />
        {chosen.size > 0 ? <Chosen chosen={chosen} onNone={() => setChosen(new Set())} /> : null}
      </div>
      {error ? <Notice kind="bad">{error}</Notice> : null}
      {offline ? <Offline /> : null}
      {list.runs.length > 0 ? <RunTable runs={list.runs} now={now} chosen={chosen} onChoose={choose} onAdd={add} /> : null}
      {list.known && list.runs.length === 0 ? <NoRuns filtered={Boolean(route.name || route.state)} /> : null}
      {!list.known && !error && !offline ? <p class="loading">Loading…</p> : null}
      {list.more ? <More list={list} onMore={more} onOlder={add} /> : null}
    </main>
  );
}

/** More of the list; beyond what a page can hold, the runs before it. */
function More({ list, onMore, onOlder }: { list: RunList; onMore: () => void; onOlder: (text: string) => void }) {
  const last = list.runs.at(-1)?.createdAt;
  if (list.size < MOST || !last) {
    return (
      <button type="button" class="more" onClick={onMore}>
        Show more
      </button>
    );
  }
  return (
    <button type="button" class="more" onClick={() => onOlder(condition("created_at", "", "<", instant(last)))}>
      Older runs
    </button>
  );
}

function NoRuns({ filtered }: { filtered: boolean }) {
  if (filtered) return <Empty>No run is like this.</Empty>;
  return (
    <div class="welcome">
      <p>There are no runs yet. Send one:</p>
      <pre>{`import kfp\nclient = kfp.Client(host="${location.origin}")\nclient.create_run_from_pipeline_package("pipeline.yaml")`}</pre>
    </div>
  );
}

/** What can be done with the runs that were chosen. */
function Chosen({ chosen, onNone }: { chosen: ReadonlySet<string>; onNone: () => void }) {
  const fits = chosen.size >= COMPARED.least && chosen.size <= COMPARED.most;
  return (
    <span class="chosen">
      <button type="button" class="quiet small" onClick={onNone}>
        Choose none
      </button>
      <button
        type="button"
        class="primary"
        disabled={!fits}
        title={fits ? undefined : `${COMPARED.least} to ${COMPARED.most} runs can be compared`}
        onClick={() => go({ page: "compare", runIds: [...chosen] })}
      >
        Compare {chosen.size}
      </button>
    </span>
  );
}

interface TableProps {
  runs: RunSummary[];
  now: number;
  chosen: ReadonlySet<string>;
  onChoose: (runId: string, on: boolean) => void;
  /** Takes a condition that a person clicked. */
  onAdd: (text: string) => void;
}

function RunTable({ runs, now, chosen, onChoose, onAdd }: TableProps) {
  return (
    <table class="run-table">
      <thead>
        <tr>
          <th scope="col">
            <span class="visually-hidden">Chosen</span>
          </th>
          <th scope="col">Run</th>
          <th scope="col">State</th>
          <th scope="col">Pipeline</th>
          <th scope="col">Tags and metrics</th>
          <th scope="col">Started</th>
          <th scope="col" class="right">
            Took
          </th>
        </tr>
      </thead>
      <tbody>
        {runs.map((run) => (
          <tr key={run.runId} onClick={(event) => follow(event, run.runId)}>
            <td class="choose">
              <input
                type="checkbox"
                aria-label={`Choose ${run.displayName}`}
                checked={chosen.has(run.runId)}
                onChange={(event) => onChoose(run.runId, event.currentTarget.checked)}
              />
            </td>
            <td class="name">
              <a href={linkTo(run.runId)}>{run.displayName}</a>
              {run.message ? (
                <span class="message" title={run.message}>
                  <Marked text={run.message} />
                </span>
              ) : null}
            </td>
            <td>
              <StatePill state={run.state} />
            </td>
            <td>
              <button
                type="button"
                class="link plain"
                title={`Only runs of ${run.pipelineName}`}
                onClick={() => onAdd(condition("pipeline", "", "=", run.pipelineName))}
              >
                {run.pipelineName}
              </button>
            </td>
            <td>
              <Labels run={run} onAdd={onAdd} />
            </td>
            <When run={run} now={now} />
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function When({ run, now }: { run: RunSummary; now: number }) {
  const created = millis(run.createdAt) ?? now;
  return (
    <>
      <td title={fullTime(created)}>{when(created, now)}</td>
      <td class="right">{duration((millis(run.finishedAt) ?? now) - created)}</td>
    </>
  );
}

/** Labels that a line has room for. */
const LABELS = 6;

function Labels({ run, onAdd }: { run: RunSummary; onAdd: (text: string) => void }) {
  const tags = Object.entries(run.tags)
    .sort()
    .map(([name, value]) => ({ text: value ? `${name}: ${value}` : name, wanted: condition("tag", name, "=", value) }));
  const metrics = Object.entries(run.metrics)
    .sort()
    .map(([name, value]) => ({ text: `${name} ${number(value)}`, wanted: condition("metric", name, ">=", String(value)) }));
  const all = [...tags, ...metrics];
  return (
    <span class="labels" title={all.map(({ text }) => text).join(", ")}>
      {all.slice(0, LABELS).map(({ text, wanted }) => (
        <button key={text} type="button" class="badge" title={`Only runs with ${wanted}`} onClick={() => onAdd(wanted)}>
          {text}
        </button>
      ))}
      {all.length > LABELS ? <span class="muted">+{all.length - LABELS}</span> : null}
    </span>
  );
}

/** The whole line leads where its link does, unless the person is selecting text or operated something in it. */
function follow(event: MouseEvent, runId: string): void {
  const target = event.target as HTMLElement;
  if (target.closest("a, button, .choose") || getSelection()?.toString()) return;
  location.hash = linkTo(runId);
}
