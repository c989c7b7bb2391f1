// Everything about one task, beside the view that it was chosen in.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { programs } from "../api/client.js";
import { type ArtifactIds, type Attempt, State, type Task, TaskKind } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { State as WorkloadState } from "../gen/flumina/runner/v1/runner_pb.js";
import { bytes, duration, fullTime, millis, plural } from "../model/format.js";
import { barClass, type Phase, phaseName, phases, totals } from "../model/phases.js";
import { label, type RunModel } from "../model/run.js";
import { retryText, waitsForRetry } from "../model/retry.js";
import { cause } from "../model/sentence.js";
import { hasEnded } from "../model/state.js";
import { formatRoute, type Panel, PANELS, runRoute } from "../route.js";
import { ArtifactById, useLoaded } from "./artifacts.js";
import { CodeView } from "./code.js";
import { CountsView, Empty, Facts, Marked, Notice, StateIcon, StatePill, Tabs, useNow } from "./common.js";
import { LogView } from "./logs.js";
import { Values } from "./values.js";

interface Props {
  model: RunModel;
  task: Task;
  panel: Panel;
  onPanel: (panel: Panel) => void;
  onSelect: (taskId: string) => void;
  onClose: () => void;
}

const NAMES: Record<Panel, string> = { overview: "Overview", logs: "Logs", io: "Inputs and outputs", code: "Code" };

export function Drawer({ model, task, panel, onPanel, onSelect, onClose }: Props) {
  const aside = useRef<HTMLElement>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => setAttempt(0), [task.taskId]);
  // Whoever opened it by keyboard goes on inside it.
  useEffect(() => aside.current?.focus({ preventScroll: true }), []);
  const key = (event: JSX.TargetedKeyboardEvent<HTMLElement>) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onClose();
  };
  const panels: readonly Panel[] = task.kind === TaskKind.CONTAINER ? PANELS : PANELS.filter((one) => one === "overview" || one === "io");
  const shown = panels.includes(panel) ? panel : "overview";
  const around = model.ancestry(task.taskId).slice(0, -1);
  return (
    <aside ref={aside} class="drawer" aria-label={`Task ${task.path || task.name}`} tabIndex={-1} onKeyDown={key}>
      <header>
        <div class="title">
          <StateIcon state={task.state} />
          <h2>{label(task)}</h2>
          <StatePill state={task.state} />
          <button type="button" class="quiet close" aria-label="Close the task" onClick={onClose}>
            ×
          </button>
        </div>
        {around.length > 0 ? (
          <nav class="path" aria-label="Groups around this task">
            {around.map((group) => (
              <span key={group.taskId}>
                <button type="button" class="link" onClick={() => onSelect(group.taskId)}>
                  {label(group)}
                </button>
                <span aria-hidden="true"> / </span>
              </span>
            ))}
            {label(task)}
          </nav>
        ) : null}
        <Tabs
          label="About this task"
          tabs={panels.map((id) => ({ id, name: NAMES[id] }))}
          active={shown}
          onSelect={onPanel}
          controls="drawer-panel"
        />
      </header>
      <div id="drawer-panel" class={`panel ${shown}`} role="tabpanel" aria-label={NAMES[shown]}>
        {shown === "overview" ? <Overview model={model} task={task} onSelect={onSelect} /> : null}
        {shown === "logs" ? <Logs task={task} attempt={attempt} onAttempt={setAttempt} /> : null}
        {shown === "io" ? <InputsAndOutputs task={task} /> : null}
        {shown === "code" ? <CodeView task={task} /> : null}
      </div>
    </aside>
  );
}

function Logs({ task, attempt, onAttempt }: { task: Task; attempt: number; onAttempt: (number: number) => void }) {
  return (
    <>
      {task.attempts.length > 1 ? (
        <label class="attempts">
          Attempt{" "}
          <select value={attempt} onChange={(event) => onAttempt(Number(event.currentTarget.value))}>
            <option value={0}>newest</option>
            {task.attempts.map((one) => (
              <option key={one.number} value={one.number}>
                {one.number}: {WorkloadState[one.state]?.toLowerCase()}
              </option>
            ))}
          </select>
        </label>
      ) : null}
      <LogView key={`${task.taskId} ${attempt}`} task={task} attempt={attempt} />
    </>
  );
}

function Overview({ model, task, onSelect }: { model: RunModel; task: Task; onSelect: (taskId: string) => void }) {
  const now = useNow(!hasEnded(task.state), 500);
  const found = phases(task, now);
  const children = model.children(task.taskId);
  return (
    <>
      <Reason task={task} />
      <When task={task} now={now} />
      <Breakdown found={found} />
      {children.length > 0 ? (
        <section>
          <h3>{model.isLoop(task.taskId) ? "Iterations" : "Tasks inside"}</h3>
          <CountsView counts={model.counts(children)} />
        </section>
      ) : null}
      {task.attempts.length > 0 ? <Attempts attempts={task.attempts} /> : null}
      {task.kind === TaskKind.ROOT ? null : <Asked task={task} />}
      <Waits model={model} task={task} onSelect={onSelect} />
    </>
  );
}

/** Why the task is as it is. */
function Reason({ task }: { task: Task }) {
  const attempt = task.attempts[task.attempts.length - 1];
  if (task.state === State.FAILED) {
    const { kind, text, place, code } = cause(task.message);
    return (
      <div class="cause" role="note">
        <p class="what">
          <strong>{kind}</strong>
          {text ? `: ${text}` : ""}
        </p>
        {place ? (
          <p class="where">
            <code>{place}</code>
            {code ? <code class="line">{code}</code> : null}
          </p>
        ) : null}
        <p class="muted">{task.reason}</p>
      </div>
    );
  }
  if (task.cache?.sourceRunId) {
    return (
      <Notice>
        Its outputs were taken from{" "}
        <a href={formatRoute({ ...runRoute(task.cache.sourceRunId), task: task.cache.sourceTaskId })}>an equal task of an earlier run</a>.
      </Notice>
    );
  }
  if (waitsForRetry(task)) return <RetryWait task={task} />;
  const queued = !hasEnded(task.state) && attempt && attempt.message ? attempt : undefined;
  const text = queued?.message || task.message || (task.state === State.PENDING ? "It waits for tasks before it." : "");
  if (!text) return null;
  return (
    <Notice>
      <Marked text={text} />
      {queued && queued.queuePosition > 0 ? ` Place ${queued.queuePosition} in the queue.` : ""}
    </Notice>
  );
}

/** A task in the pause after a failure: when it tries again, and what failed. */
function RetryWait({ task }: { task: Task }) {
  const now = useNow(true, 500);
  const last = task.attempts[task.attempts.length - 1];
  return (
    <Notice>
      <strong>{retryText(task, now)}</strong> {last ? `Attempt ${last.number} failed: ${last.message}` : ""}
    </Notice>
  );
}

function When({ task, now }: { task: Task; now: number }) {
  const [created, started, ended] = [millis(task.createdAt), millis(task.startedAt), millis(task.endedAt)];
  const facts: [string, string][] = [];
  if (created !== undefined) facts.push(["Created", fullTime(created)]);
  if (started !== undefined) facts.push(["Started", fullTime(started)]);
  if (ended !== undefined) facts.push(["Ended", fullTime(ended)]);
  if (started !== undefined) facts.push(["Took", duration((ended ?? now) - started)]);
  if (task.image) facts.push(["Image", task.image]);
  if (task.component) facts.push(["Component", task.component]);
  facts.push(["Task id", task.taskId]);
  return <Facts facts={facts} />;
}

/** Where the time went, as one bar. */
function Breakdown({ found }: { found: Phase[] }) {
  const sums = totals(found).filter(({ kind }) => kind !== "group");
  const all = sums.reduce((sum, { ms }) => sum + ms, 0);
  if (all === 0) return null;
  return (
    <section>
      <h3>Where the time went</h3>
      <div class="breakdown" aria-hidden="true">
        {sums.map((sum) => (
          <span key={phaseName(sum)} class={`bar ${barClass(sum)}`} style={{ flexGrow: String(Math.max(sum.ms / all, 0.004)) }} />
        ))}
      </div>
      <ul class="shares">
        {sums.map((sum) => (
          <li key={phaseName(sum)}>
            <span class={`swatch ${barClass(sum)}`} aria-hidden="true" />
            {phaseName(sum)} <strong>{duration(sum.ms)}</strong>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Attempts({ attempts }: { attempts: Attempt[] }) {
  return (
    <section>
      <h3>{attempts.length === 1 ? "Attempt" : plural(attempts.length, "attempt")}</h3>
      <ol class="attempt-list">
        {attempts.toReversed().map((attempt) => (
          <li key={attempt.number} value={attempt.number}>
            <Facts facts={attempts.length > 1 ? [["Attempt", String(attempt.number)], ...attemptFacts(attempt)] : attemptFacts(attempt)} />
            {attempt.message && attempts.length > 1 ? <p class="muted">{attempt.message}</p> : null}
            {attempt.notes.map((note) => (
              <Notice key={note}>
                <Marked text={note} />
              </Notice>
            ))}
          </li>
        ))}
      </ol>
    </section>
  );
}

function attemptFacts(attempt: Attempt): [string, string][] {
  const facts: [string, string][] = [["State", (WorkloadState[attempt.state] ?? "").toLowerCase()]];
  if (attempt.reason) facts.push(["Reason", attempt.reason]);
  if (attempt.exitCode !== undefined) facts.push(["Exit code", String(attempt.exitCode)]);
  if (attempt.signal !== undefined) facts.push(["Signal", String(attempt.signal)]);
  if (attempt.peakMemoryBytes > 0n) facts.push(["Peak memory", bytes(Number(attempt.peakMemoryBytes))]);
  if (attempt.cpuUs > 0n) facts.push(["CPU time", duration(Number(attempt.cpuUs) / 1000)]);
  const [from, to] = [millis(attempt.launchedAt), millis(attempt.endedAt)];
  if (from !== undefined && to !== undefined) facts.push(["Took", duration(to - from)]);
  return facts;
}

/** What the task asked for, beside what its attempts used. */
function Asked({ task }: { task: Task }) {
  const [program] = useLoaded(
    (signal) => programs.getProgram({ runId: task.runId, task: task.taskId }, { signal }),
    [task.taskId],
  );
  const asked = program?.resources;
  const facts: [string, string][] = [];
  const range = (name: string, request = "", limit = "") => {
    const parts = [request && `${request} requested`, limit && `${limit} at most`].filter(Boolean);
    if (parts.length > 0) facts.push([name, parts.join(", ")]);
  };
  range("CPU", asked?.cpuRequest, asked?.cpuLimit);
  range("Memory", asked?.memoryRequest, asked?.memoryLimit);
  if (asked?.acceleratorType) facts.push(["Accelerators", `${asked.acceleratorCount || 1} × ${asked.acceleratorType}`]);
  if (program?.maxRetries) facts.push(["Retries", `${program.maxRetries} at most`]);
  if (program?.condition) facts.push(["Condition", program.condition]);
  if (program && task.kind === TaskKind.CONTAINER) facts.push(["Caching", program.caching ? "on" : "off"]);
  if (facts.length === 0) return null;
  return (
    <section>
      <h3>Asked for</h3>
      <Facts facts={facts} />
    </section>
  );
}

function Waits({ model, task, onSelect }: { model: RunModel; task: Task; onSelect: (taskId: string) => void }) {
  const before = task.dependencies.flatMap((id) => model.tasks.get(id) ?? []);
  if (before.length === 0) return null;
  return (
    <section>
      <h3>Runs after</h3>
      <ul class="chips">
        {before.map((other) => (
          <li key={other.taskId}>
            <button type="button" class="chip" onClick={() => onSelect(other.taskId)}>
              <StateIcon state={other.state} />
              {label(other)}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function InputsAndOutputs({ task }: { task: Task }) {
  const none = (parameters: object | undefined, artifacts: object) =>
    Object.keys(parameters ?? {}).length + Object.keys(artifacts).length === 0;
  return (
    <>
      <section>
        <h3>Inputs</h3>
        <Values values={task.inputParameters} label="Input parameters" />
        <Artifacts found={task.inputArtifacts} />
        {none(task.inputParameters, task.inputArtifacts) ? <Empty>It has no inputs.</Empty> : null}
      </section>
      <section>
        <h3>Outputs</h3>
        <Values values={task.outputParameters} label="Output parameters" />
        <Artifacts found={task.outputArtifacts} />
        {none(task.outputParameters, task.outputArtifacts) ? (
          <Empty>{hasEnded(task.state) ? "It put nothing out." : "Nothing yet."}</Empty>
        ) : null}
      </section>
    </>
  );
}

/** Artifacts of one name that are shown; a loop may collect thousands. */
const MOST = 20;

export function Artifacts({ found }: { found: Record<string, ArtifactIds> }) {
  return (
    <>
      {Object.entries(found)
        .sort(([a], [b]) => a.localeCompare(b))
        .map(([name, list]) => (
          <div key={name} class="named">
            <h4>
              {name}
              {list.ids.length > 1 ? <span class="badge">{list.ids.length}</span> : null}
            </h4>
            {list.ids.slice(0, MOST).map((id) => (
              <ArtifactById key={String(id)} id={id} />
            ))}
            {list.ids.length > MOST ? <p class="note">and {plural(list.ids.length - MOST, "more artifact")}</p> : null}
          </div>
        ))}
    </>
  );
}
