// What can be done to a run: stop it, go on with it, run it again.
import type { JsonObject } from "@bufbuild/protobuf";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";

import { explain, rest, runs } from "../api/client.js";
import { type Run, State } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { changes, type Field, fields } from "../model/parameters.js";
import { runRoute } from "../route.js";
import { go } from "./common.js";

type Action = "stop" | "stop-exit" | "retry" | "again";

/** What a person may ask for in a state, with the words on the button. */
function offered(state: State): [Action, string][] {
  const again: [Action, string] = ["again", "Run again…"];
  switch (state) {
    case State.PENDING:
    case State.RUNNING:
      return [again, ["stop", "Stop the run"]];
    case State.CANCELING:
      return [again, ["stop-exit", "Stop exit tasks too"]];
    case State.FAILED:
    case State.CANCELED:
      return [again, ["retry", "Retry"]];
    default:
      return [again];
  }
}

/** `onRetried` is called when the run, which had ended, goes on. */
export function Actions({ run, onRetried }: { run: Run; onRetried: () => void }) {
  // A dialog is gone a moment before its page hears of it. Asking again in that moment asks anew, so each asking is known by a number.
  const [asked, setAsked] = useState<{ action: Action | ""; number: number }>({ action: "", number: 0 });
  const open = asked.action;
  const close = () => setAsked((now) => (now.number === asked.number ? { ...now, action: "" } : now));
  const call = (verb: string) => rest("POST", `/apis/v2beta1/runs/${encodeURIComponent(run.runId)}:${verb}`);
  return (
    <span class="actions">
      {offered(run.state).map(([action, text]) => (
        <button key={action} type="button" onClick={() => setAsked((now) => ({ action, number: now.number + 1 }))}>
          {text}
        </button>
      ))}
      {open === "stop" ? (
        <Ask key={asked.number} title="Stop this run?" verb="Stop the run" onClose={close} onConfirm={() => call("terminate")}>
          <p>Programs that run now are ended, and tasks that wait are not started. Exit tasks still run.</p>
        </Ask>
      ) : null}
      {open === "stop-exit" ? (
        <Ask key={asked.number} title="Stop exit tasks too?" verb="Stop them" onClose={close} onConfirm={() => call("terminate")}>
          <p>The run is being stopped. Tasks that clean up after it are ended as well, or not started.</p>
        </Ask>
      ) : null}
      {open === "retry" ? (
        <Ask key={asked.number} title="Retry this run?" verb="Retry" onClose={close} onConfirm={() => call("retry").then(onRetried)}>
          <p>What succeeded stays, with its outputs. What failed, was stopped or was skipped is executed again, and what follows on it.</p>
        </Ask>
      ) : null}
      {open === "again" ? <RunAgain key={asked.number} run={run} onClose={close} /> : null}
    </span>
  );
}

interface AskProps {
  title: string;
  /** What the button says that does it. */
  verb: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}

/** A question before something is done; what goes wrong is said in it, and it stays open. */
function Ask({ title, verb, onConfirm, onClose, children, wide = false }: AskProps) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await onConfirm();
      onClose();
    } catch (failed) {
      setError(explain(failed));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} class={wide ? "wide" : ""} aria-labelledby={id} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id={id}>{title}</h2>
        {children}
        {error ? (
          <p class="error" role="alert">
            {error}
          </p>
        ) : null}
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={busy}>
            {verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** A new run of the same pipeline, with these parameters or others. */
function RunAgain({ run, onClose }: { run: Run; onClose: () => void }) {
  const [name, setName] = useState(`Clone of ${run.displayName}`.slice(0, 128));
  const [known] = useState<Field[]>(() => fields(run.parameters ?? {}));
  const [texts, setTexts] = useState<Record<string, string>>(() => Object.fromEntries(known.map((field) => [field.name, field.text])));
  // One id for one intention: pressing again after an answer was lost makes no second run.
  const [requestId] = useState(() => crypto.randomUUID());
  const { wrong } = changes(known, texts);
  const start = async () => {
    const { values } = changes(known, texts);
    if (Object.keys(wrong).length > 0) throw new Error(`${Object.keys(wrong).join(", ")}: not what the parameter takes`);
    const made = await runs.cloneRun({ runId: run.runId, displayName: name.trim(), parameters: values as JsonObject, requestId });
    go(runRoute(made.runId));
  };
  return (
    <Ask title="Run this pipeline again" verb="Start the run" wide onClose={onClose} onConfirm={start}>
      <label class="field">
        <span>Name</span>
        <input type="text" maxLength={128} value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      {known.length === 0 ? <p class="muted">This pipeline takes no parameters.</p> : null}
      <div class="fields">
        {known.map((field) => (
          <Parameter
            key={field.name}
            field={field}
            text={texts[field.name] ?? ""}
            wrong={wrong[field.name] ?? ""}
            onText={(text) => setTexts({ ...texts, [field.name]: text })}
          />
        ))}
      </div>
    </Ask>
  );
}

function Parameter({ field, text, wrong, onText }: { field: Field; text: string; wrong: string; onText: (text: string) => void }) {
  const id = useId();
  const long = field.text.length > 60 || field.text.includes("\n");
  const shared = {
    value: text,
    spellcheck: false,
    "aria-invalid": wrong !== "",
    "aria-describedby": wrong ? id : undefined,
  };
  return (
    <label class="field">
      <span>
        <code>{field.name}</code> <span class="muted">{text === field.text ? field.kind : "changed"}</span>
      </span>
      {long ? (
        <textarea rows={4} {...shared} onInput={(event) => onText(event.currentTarget.value)} />
      ) : (
        <input type="text" {...shared} onInput={(event) => onText(event.currentTarget.value)} />
      )}
      {wrong ? (
        <span class="error" id={id}>
          {wrong}
        </span>
      ) : null}
    </label>
  );
}
