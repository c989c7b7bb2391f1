// Runs beside each other: only what is not the same in all of them.
import { COMPARED, compareRuns } from "../api/runs.js";
import { type Difference, type DifferentValue, DifferenceKind, type RunSummary } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
import { duration, fullTime, millis, number } from "../model/format.js";
import type { CompareRoute } from "../route.js";
import { useLoaded } from "./artifacts.js";
import { Empty, Notice, StatePill, useTitle } from "./common.js";
import { TextDifference } from "./difference.js";
import { linkTo } from "./run.js";

const KINDS: [DifferenceKind, string][] = [
  [DifferenceKind.PARAMETER, "Parameters"],
  [DifferenceKind.METRIC, "Metrics"],
  [DifferenceKind.CODE, "Code"],
  [DifferenceKind.SPEC, "Specification"],
];

export function ComparePage({ route }: { route: CompareRoute }) {
  useTitle("Comparison");
  const fits = route.runIds.length >= COMPARED.least && route.runIds.length <= COMPARED.most;
  return (
    <main class="runs compare">
      <div class="head">
        <h1>Comparison</h1>
        <a href="#/runs">All runs</a>
      </div>
      {fits ? (
        <Comparison runIds={route.runIds} />
      ) : (
        <Notice kind="bad">{`${COMPARED.least} to ${COMPARED.most} runs can be compared, not ${route.runIds.length}.`}</Notice>
      )}
    </main>
  );
}

function Comparison({ runIds }: { runIds: string[] }) {
  const [found, error] = useLoaded((signal) => compareRuns(runIds, signal), [runIds.join()]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!found) return <p class="loading">Loading…</p>;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Comparison of runs">
        <table class="compare-table">
          <Heads runs={found.runs} />
          {KINDS.map(([kind, text]) => (
            <Kind
              key={kind}
              text={text}
              kind={kind}
              names={found.runs.map((run) => run.displayName)}
              differences={found.differences.filter((one) => one.kind === kind)}
            />
          ))}
        </table>
      </div>
      {found.differences.length === 0 ? <Empty>Parameters, metrics, code and specification are the same in all of them.</Empty> : null}
      {found.truncated ? <Notice>There are more differences than are listed.</Notice> : null}
    </>
  );
}

function Heads({ runs }: { runs: RunSummary[] }) {
  return (
    <thead>
      <tr>
        <td />
        {runs.map((run) => (
          <th key={run.runId} scope="col">
            <a href={linkTo(run.runId)}>{run.displayName}</a>
            <span class="line">
              <StatePill state={run.state} />
            </span>
            <span class="muted">{when(run)}</span>
          </th>
        ))}
      </tr>
    </thead>
  );
}

function when(run: RunSummary): string {
  const [from, to] = [millis(run.createdAt), millis(run.finishedAt)];
  if (from === undefined) return "";
  return to === undefined ? fullTime(from) : `${fullTime(from)}, ${duration(to - from)}`;
}

interface KindProps {
  text: string;
  kind: DifferenceKind;
  /** The runs. */
  names: string[];
  differences: Difference[];
}

function Kind({ text, kind, names, differences }: KindProps) {
  if (differences.length === 0) return null;
  const columns = names.length;
  return (
    <tbody>
      <tr class="kind">
        <th scope="rowgroup" colSpan={columns + 1}>
          {text}
        </th>
      </tr>
      {differences.map((one) => (
        <tr key={one.name}>
          <th scope="row" title={one.name}>
            <code>{one.name}</code>
          </th>
          {one.values.some(({ text }) => text.includes("\n")) ? (
            <td class="whole" colSpan={columns}>
              <TextDifference values={one.values} names={names} />
            </td>
          ) : (
            one.values.map((value, index) => (
              <Value key={index} value={value} kind={kind} best={kind === DifferenceKind.METRIC && isLargest(one.values, value)} />
            ))
          )}
        </tr>
      ))}
    </tbody>
  );
}

function Value({ value, kind, best }: { value: DifferentValue; kind: DifferenceKind; best: boolean }) {
  if (!value.present) return <td class="absent">none</td>;
  if (kind === DifferenceKind.METRIC) {
    return (
      <td class={`figure-cell ${best ? "largest" : ""}`} title={best ? "the largest" : undefined}>
        {number(Number(value.text))}
      </td>
    );
  }
  return (
    <td>
      <code>{value.text}</code>
    </td>
  );
}

function isLargest(values: DifferentValue[], value: DifferentValue): boolean {
  const present = values.filter((one) => one.present).map((one) => Number(one.text));
  return present.length > 1 && Number(value.text) === Math.max(...present);
}
