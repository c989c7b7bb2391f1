// A text of several lines that is not the same in all runs: what differs, line by line.
import { useMemo } from "preact/hooks";

import type { DifferentValue } from "../gen/flumina/pipelines/v1/run_lists_pb.js";
import { counterparts, diff, folded, type Fold, type Line, middle } from "../model/diff.js";
import { plural } from "../model/format.js";

interface Props {
  values: DifferentValue[];
  /** The runs, in the order of the values. */
  names: string[];
}

/** Every text that is not the first run's, against that one. */
export function TextDifference({ values, names }: Props) {
  const base = values[0];
  const others = new Map<string, string[]>();
  const lacking: string[] = [];
  values.forEach((value, index) => {
    const name = names[index] ?? "";
    if (!value.present) lacking.push(name);
    else if (!base?.present || value.text !== base.text) others.set(value.text, [...(others.get(value.text) ?? []), name]);
  });
  const from = base?.present ? base.text : undefined;
  return (
    <>
      {[...others].map(([text, runs]) => (
        <Part key={text} before={from} after={text} from={names[0] ?? ""} to={runs} />
      ))}
      {others.size + lacking.length === 0 ? <p class="muted">They differ beyond the part that is shown.</p> : null}
      {base?.present && others.size === 0 ? <Part before={undefined} after={base.text} from="" to={[names[0] ?? ""]} /> : null}
      {lacking.length > 0 ? <p class="absent">none in {lacking.join(", ")}</p> : null}
    </>
  );
}

function Part({ before, after, from, to }: { before: string | undefined; after: string; from: string; to: string[] }) {
  const lines = useMemo(() => (before === undefined ? [] : diff(before, after)), [before, after]);
  if (before === undefined) {
    return (
      <details>
        <summary>
          in {to.join(", ")}: {plural(after.split("\n").length, "line")}
        </summary>
        <pre class="source">{after}</pre>
      </details>
    );
  }
  const count = (kind: string) => lines.filter((line) => line.kind === kind).length;
  const [removed, added] = [count("removed"), count("added")];
  return (
    <figure class="difference">
      <figcaption>
        {from} → {to.join(", ")} <span class="minus">−{removed}</span> <span class="plus">+{added}</span>
        <span class="visually-hidden">
          : {plural(removed, "line")} removed, {plural(added, "line")} added
        </span>
      </figcaption>
      <Lines lines={folded(lines)} />
    </figure>
  );
}

const SIGNS = { same: " ", removed: "−", added: "+" };
const MEANINGS = { same: "", removed: "removed: ", added: "added: " };

function Lines({ lines }: { lines: (Line | Fold)[] }) {
  const pairs = useMemo(() => counterparts(lines), [lines]);
  return (
    <div class="lines-of" tabIndex={0} role="region" aria-label="Lines that differ">
      {lines.map((line, index) =>
        line.kind === "fold" ? (
          <div key={index} class="fold">
            {plural(line.count, "equal line")}
          </div>
        ) : (
          <div key={index} class={line.kind}>
            <span class="no">{line.numbers[0] || ""}</span>
            <span class="no">{line.numbers[1] || ""}</span>
            <span class="sign" aria-hidden="true">
              {SIGNS[line.kind]}
            </span>
            <span class="visually-hidden">{MEANINGS[line.kind]}</span>
            <Text line={line} other={pairs.get(line)} />
          </div>
        ),
      )}
    </div>
  );
}

/** A line; where another takes its place, with what differs between the two marked. */
function Text({ line, other }: { line: Line; other: Line | undefined }) {
  if (!other) return <>{line.text}</>;
  const [before, within, after] = middle(line.text, other.text);
  // Lines that have little in common are no two forms of one line.
  if (2 * within.length > line.text.length + 8) return <>{line.text}</>;
  return (
    <>
      {before}
      {within ? <b>{within}</b> : null}
      {after}
    </>
  );
}
