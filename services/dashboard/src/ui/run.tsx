// The page of a run.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { watchRun, type Watched } from "../api/watch.js";
import { State } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { duration, fullTime, millis } from "../model/format.js";
import { RunModel } from "../model/run.js";
import { cause, type Part, plainText, sentence } from "../model/sentence.js";
import { look } from "../model/state.js";
import { formatRoute, type Panel, type RunRoute, runRoute, type View } from "../route.js";
import { Actions } from "./actions.js";
import { CountsView, Copy, Empty, go, Notice, Offline, StateIcon, StatePill, Tabs, useNow, useTitle } from "./common.js";
import { Artifacts, Drawer } from "./drawer.js";
import { GraphView } from "./graph.js";
import { LogTail } from "./logs.js";
import { MetricsView } from "./metrics.js";
import { Timeline } from "./timeline.js";
import { Values } from "./values.js";

const VIEW_NAMES: Record<View, string> = {
  timeline: "Timeline",
  graph: "Graph",
  metrics: "Metrics",
  io: "Inputs and outputs",
};

/** The run as it is known now; the number grows with every change. The function begins anew, for a run that goes on after its end. */
function useRun(runId: string): [Watched, number, () => void] {
  const [round, setRound] = useState(0);
  const watched = useMemo<Watched>(() => ({ model: new RunModel(), known: false, error: "", offline: false }), [runId, round]);
  const [version, setVersion] = useState(0);
  useEffect(() => watchRun(runId, watched, () => setVersion((old) => old + 1)), [runId, watched]);
  return [watched, version, () => setRound((old) => old + 1)];
}

export function RunPage({ route }: { route: RunRoute }) {
  const [watched, version, restart] = useRun(route.runId);
  const { model } = watched;
  const body = useRef<HTMLDivElement>(null);
  const task = model.tasks.get(route.task);
  const latest = useRef(route);
  latest.current = route;
  const to = (change: Partial<RunRoute>, replace = false) => go({ ...latest.current, ...change }, replace);
  const select = (taskId: string) => to({ task: taskId });
  const close = () => {
    to({ task: "" });
    // Back to where the task was chosen.
    body.current?.querySelector<HTMLElement>("[role=treegrid], .node.selected .open")?.focus();
  };

  if (watched.error) {
    return (
      <main class="run">
        <Notice kind="bad">{watched.error}</Notice>
        <p>
          <a href="#/runs">All runs</a>
        </p>
      </main>
    );
  }
  if (!watched.known) {
    return <main class="run">{watched.offline ? <Offline /> : <p class="loading">Loading the run…</p>}</main>;
  }
  return (
    <main class={`run ${task ? "with-drawer" : ""}`}>
      <div class="content">
        {watched.offline ? <Offline /> : null}
        <Head model={model} version={version} onSelect={select} onRetried={restart} />
        <Tabs
          label="Views of the run"
          tabs={(Object.keys(VIEW_NAMES) as View[]).map((id) => ({ id, name: VIEW_NAMES[id] }))}
          active={route.view}
          onSelect={(view) => to({ view }, true)}
          controls="run-view"
        />
        <div id="run-view" class={`view ${route.view}`} role="tabpanel" aria-label={VIEW_NAMES[route.view]} ref={body}>
          {route.view === "timeline" ? (
            <Timeline model={model} version={version} selected={route.task} onSelect={select} />
          ) : null}
          {route.view === "graph" ? (
            <GraphView
              model={model}
              version={version}
              group={route.group}
              selected={route.task}
              onGroup={(group) => to({ group })}
              onSelect={select}
            />
          ) : null}
          {route.view === "metrics" ? <MetricsView model={model} onSelect={select} /> : null}
          {route.view === "io" ? <RunValues model={model} /> : null}
        </div>
      </div>
      {task ? (
        <Drawer
          model={model}
          task={task}
          panel={route.panel}
          onPanel={(panel: Panel) => to({ panel }, true)}
          onSelect={select}
          onClose={close}
        />
      ) : null}
    </main>
  );
}

interface HeadProps {
  model: RunModel;
  version: number;
  onSelect: (taskId: string) => void;
  onRetried: () => void;
}

function Head({ model, version, onSelect, onRetried }: HeadProps) {
  const run = model.run;
  const now = useNow(!model.ended);
  const parts = useMemo(() => sentence(model, now), [model, version, now]);
  const counts = useMemo(() => model.counts(model.leaves()), [model, version]);
  useTitle(run ? `${run.displayName}: ${plainText(parts)}` : "");
  if (!run) return null;
  const created = millis(run.createdAt) ?? now;
  return (
    <header class="run-head">
      <div class="line">
        <h1>{run.displayName}</h1>
        <StatePill state={run.state} />
        <span class="space" />
        <Actions run={run} onRetried={onRetried} />
      </div>
      <p class={`sentence ${look(run.state)}`} aria-live="polite">
        <Sentence parts={parts} onSelect={onSelect} />
      </p>
      {run.state === State.FAILED ? <Cause model={model} onSelect={onSelect} /> : null}
      <p class="meta">
        <span>{run.pipelineName}</span>
        <span>{fullTime(created)}</span>
        <span>{duration((millis(run.finishedAt) ?? now) - created)}</span>
        <CountsView counts={counts} />
        <span class="id">
          <code>{run.runId}</code> <Copy text={run.runId} label="Copy the run's id" />
        </span>
      </p>
    </header>
  );
}

function Sentence({ parts, onSelect }: { parts: Part[]; onSelect: (taskId: string) => void }) {
  return (
    <>
      {parts.map((part, index) => {
        if (typeof part === "string") return part;
        if ("code" in part) return <code key={index}>{part.code}</code>;
        return (
          <button key={index} type="button" class="link code" onClick={() => onSelect(part.task.taskId)}>
            {part.task.path}
          </button>
        );
      })}
    </>
  );
}

/** What made the run fail, without a click: what was raised, where, and the end of the log. */
function Cause({ model, onSelect }: { model: RunModel; onSelect: (taskId: string) => void }) {
  const task = model.tasks.get(model.run?.failedTaskId ?? "");
  const [open, setOpen] = useState(true);
  if (!task) return null;
  const { kind, text, place, code } = cause(task.message);
  return (
    <section class="cause" aria-label="Why the run failed">
      <div class="line">
        <p class="what">
          <StateIcon state={task.state} />
          <strong>{kind}</strong>
          {text ? `: ${text}` : ""}
        </p>
        <button type="button" class="quiet small" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Hide the log" : "Show the log"}
        </button>
        <button type="button" class="quiet small" onClick={() => onSelect(task.taskId)}>
          Open the task
        </button>
      </div>
      {place ? (
        <p class="where">
          <code>{place}</code>
          {code ? <code class="line">{code}</code> : null}
        </p>
      ) : null}
      {open && task.attempts.length > 0 ? <LogTail runId={task.runId} taskId={task.taskId} lines={8} /> : null}
    </section>
  );
}

function RunValues({ model }: { model: RunModel }) {
  const run = model.run;
  const outputs = Object.keys(run?.outputs ?? {}).length + Object.keys(model.root?.outputArtifacts ?? {}).length;
  const inputs = Object.keys(run?.parameters ?? {}).length;
  return (
    <div class="columns">
      <section class="card">
        <h3>Parameters</h3>
        <Values values={run?.parameters} label="Parameters" />
        {inputs === 0 ? <Empty>This pipeline takes no parameters.</Empty> : null}
      </section>
      <section class="card">
        <h3>Outputs</h3>
        <Values values={run?.outputs} label="Outputs" />
        {model.root ? <Artifacts found={model.root.outputArtifacts} /> : null}
        {outputs === 0 ? <Empty>{model.ended ? "It put nothing out." : "Nothing yet."}</Empty> : null}
      </section>
    </div>
  );
}

export const linkTo = (runId: string): string => formatRoute(runRoute(runId));
