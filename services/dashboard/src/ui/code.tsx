// What a task runs: its source or its command, and what it is told beside its inputs.
import { programs } from "../api/client.js";
import { State, type Task } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { cause } from "../model/sentence.js";
import { Copy, Empty, Facts, Notice } from "./common.js";
import { useLoaded } from "./artifacts.js";

export function CodeView({ task }: { task: Task }) {
  const [program, error] = useLoaded(
    (signal) => programs.getProgram({ runId: task.runId, task: task.taskId }, { signal }),
    [task.taskId],
  );
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!program) return <p class="loading">Loading…</p>;
  const words = [...program.command, ...program.args];
  const facts: [string, string][] = [];
  if (program.packages.length > 0) facts.push(["Packages", program.packages.join(", ")]);
  if (program.envNames.length > 0) facts.push(["Environment", program.envNames.join(", ")]);
  if (program.platformJson) facts.push(["Kubernetes", program.platformJson]);
  return (
    <>
      {program.source ? (
        <Source title={`Python function ${program.function}`} text={trim(program.source)} python marked={failedLine(task)} />
      ) : words.length > 0 ? (
        <Source title="Command" text={words.map(quote).join(" \\\n  ")} />
      ) : (
        <Empty>It runs no program of its own.</Empty>
      )}
      {facts.length > 0 ? <Facts facts={facts} /> : null}
    </>
  );
}

/** The line of the source that raised what the task failed with; 0 for none. */
function failedLine(task: Task): number {
  const place = task.state === State.FAILED ? cause(task.message).place : "";
  return Number(/^ephemeral_component\.py:(\d+)$/.exec(place)?.[1] ?? 0);
}

interface SourceProps {
  title: string;
  text: string;
  python?: boolean;
  /** A line to point at, from 1. */
  marked?: number;
}

function Source({ title, text, python = false, marked = 0 }: SourceProps) {
  return (
    <section>
      <h3>
        {title} <Copy text={text} label="Copy the code" />
      </h3>
      <pre class="source" tabIndex={0}>
        {text.split("\n").map((line, index) => (
          <span key={index} class={`code-line ${index + 1 === marked ? "bad" : ""}`}>
            <span class="no" aria-hidden="true">
              {index + 1}
            </span>
            {python ? colour(line) : line}
            {"\n"}
          </span>
        ))}
      </pre>
    </section>
  );
}

/** The lines that the compiler puts before every function say nothing; line numbers must stay those of tracebacks. */
const trim = (source: string): string => source.replace(/\s+$/, "");

const WORDS =
  /(#.*$)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield)\b|\b(\d[\d_.e]*)\b/g;
const KINDS = ["comment", "string", "keyword", "number"];

/** Enough colour to find one's way; strings over several lines stay plain. */
function colour(line: string) {
  const parts: (string | preact.JSX.Element)[] = [];
  let from = 0;
  for (const match of line.matchAll(WORDS)) {
    const kind = KINDS[match.slice(1).findIndex((group) => group !== undefined)];
    parts.push(line.slice(from, match.index), <span class={kind}>{match[0]}</span>);
    from = match.index + match[0].length;
  }
  parts.push(line.slice(from));
  return parts;
}

const quote = (word: string): string => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
