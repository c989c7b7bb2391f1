// What a run measured: numbers, ROC curves, confusion matrices, and its reports.
import { useMemo } from "preact/hooks";

import { artifacts } from "../api/client.js";
import type { Artifact } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { number } from "../model/format.js";
import { type Classification, scalars } from "../model/metrics.js";
import type { RunModel } from "../model/run.js";
import { HtmlArtifact, MarkdownArtifact, useLoaded } from "./artifacts.js";
import { Empty, Notice } from "./common.js";
import { ClassificationView, drawn } from "./curves.js";

/** Artifacts of one type that are drawn; more would be no overview. */
const MOST = 200;
const TYPES = [
  "system.Metrics",
  "system.ClassificationMetrics",
  "system.SlicedClassificationMetrics",
  "system.HTML",
  "system.Markdown",
] as const;

interface Props {
  model: RunModel;
  onSelect: (taskId: string) => void;
}

export function MetricsView({ model, onSelect }: Props) {
  const runId = model.run?.runId ?? "";
  // A task that ends may have brought metrics.
  const ended = Number(model.run?.taskCounts["SUCCEEDED"] ?? 0n) + Number(model.run?.taskCounts["CACHED"] ?? 0n);
  const ids = useMemo(() => outputIds(model), [model, ended]);
  const [found, error] = useLoaded((signal) => load(runId, ids, signal), [runId, ended]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!found) return <p class="loading">Loading…</p>;
  const of = (type: (typeof TYPES)[number]) => found.filter((artifact) => artifact.type === type);
  const charts = found.flatMap((artifact) =>
    drawn(artifact.type, artifact.metadata ?? {}).map(([slice, metrics]): [Artifact, string, Classification] => [
      artifact,
      slice,
      metrics,
    ]),
  );
  const reports = [...of("system.HTML"), ...of("system.Markdown")].filter((artifact) => artifact.present);
  const numbers = of("system.Metrics").filter((artifact) => scalars(artifact.metadata ?? {}).length > 0);
  if (numbers.length + charts.length + reports.length === 0) {
    return <Empty>No task of this run has put out metrics, HTML or Markdown{model.ended ? "" : " yet"}.</Empty>;
  }
  const source = (artifact: Artifact, rest = "") => (
    <h3>
      <button type="button" class="link" onClick={() => onSelect(artifact.taskId)}>
        {model.tasks.get(artifact.taskId)?.path ?? "an earlier run"}
      </button>
      <span class="muted">
        {" "}
        {artifact.name} {rest}
      </span>
    </h3>
  );
  return (
    <div class="metrics">
      {numbers.length > 0 ? <Numbers found={numbers} model={model} onSelect={onSelect} /> : null}
      {charts.map(([artifact, slice, metrics]) => (
        <section key={`${artifact.artifactId} ${slice}`} class="card">
          {source(artifact, slice)}
          <ClassificationView metrics={metrics} />
        </section>
      ))}
      {reports.map((artifact) => (
        <section key={String(artifact.artifactId)} class="card wide">
          {source(artifact)}
          {artifact.type === "system.HTML" ? <HtmlArtifact artifact={artifact} /> : <MarkdownArtifact artifact={artifact} />}
        </section>
      ))}
    </div>
  );
}

/** The artifacts of this run; those that were taken from the cache belong to another, and are asked for one by one. */
async function load(runId: string, ids: ReadonlySet<bigint>, signal: AbortSignal): Promise<Artifact[]> {
  const pages = await Promise.all(
    TYPES.map((type) => artifacts.listArtifacts({ runId, type, pageSize: MOST }, { signal })),
  );
  const own = pages.flatMap((page) => page.artifacts);
  const known = new Set(own.map((artifact) => artifact.artifactId));
  const others = [...ids].filter((id) => !known.has(id)).slice(0, MOST);
  const cached = await Promise.all(others.map((artifactId) => artifacts.getArtifact({ artifactId }, { signal })));
  return [...own, ...cached.filter((artifact) => artifact.runId !== runId)].reverse();
}

/** What tasks took from the cache. */
function outputIds(model: RunModel): Set<bigint> {
  const found = new Set<bigint>();
  for (const task of model.tasks.values()) {
    if (task.reason !== "" && task.attempts.length === 0) {
      for (const list of Object.values(task.outputArtifacts)) list.ids.forEach((id) => found.add(id));
    }
  }
  return found;
}

function Numbers({ found, model, onSelect }: Props & { found: Artifact[] }) {
  return (
    <section class="card wide">
      <h3>Metrics</h3>
      <div class="figures">
        {found.flatMap((artifact) =>
          scalars(artifact.metadata ?? {}).map(([name, value]) => (
            <button
              type="button"
              key={`${artifact.artifactId} ${name}`}
              class="figure"
              onClick={() => onSelect(artifact.taskId)}
            >
              <span class="what">{name}</span>
              <span class="value">{number(value)}</span>
              <span class="muted">{model.tasks.get(artifact.taskId)?.path ?? "from the cache"}</span>
            </button>
          )),
        )}
      </div>
    </section>
  );
}
