// Artifacts: what they are, and the beginning of what is in them.
import { useEffect, useState } from "preact/hooks";

import { artifacts, explain, token } from "../api/client.js";
import type { Artifact } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { type Block, type Inline, markdown } from "../model/markdown.js";
import { bytes } from "../model/format.js";
import { Copy, Notice } from "./common.js";
import { ClassificationView, drawn } from "./curves.js";
import { Values } from "./values.js";

/** Bytes of a file that a preview reads. */
const PREVIEW = 64 << 10;
/** Bytes of a report that is drawn whole. */
export const REPORT = 8 << 20;

/** The beginning of a file, at most `limit` bytes and a little more. */
export async function readBeginning(
  artifactId: bigint,
  path: string,
  limit: number,
  signal: AbortSignal,
): Promise<{ data: Uint8Array<ArrayBuffer>; total: number }> {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort(), { once: true });
  const parts: Uint8Array[] = [];
  let [size, total] = [0, 0];
  for await (const part of artifacts.readArtifact({ artifactId, path }, { signal: stop.signal })) {
    if (parts.length === 0) total = Number(part.totalBytes);
    parts.push(part.data);
    size += part.data.length;
    if (size >= limit) break;
  }
  stop.abort();
  const data = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return { data: data.subarray(0, limit), total };
}

/** Loads something again whenever a key changes. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[]): [T | undefined, string] {
  const [state, setState] = useState<{ value?: T; error: string }>({ error: "" });
  useEffect(() => {
    const stop = new AbortController();
    setState({ error: "" });
    load(stop.signal).then(
      (value) => !stop.signal.aborted && setState({ value, error: "" }),
      (error: unknown) => !stop.signal.aborted && setState({ error: explain(error) }),
    );
    return () => stop.abort();
  }, keys);
  return [state.value, state.error];
}

/** An artifact by its id, with a preview that opens on request. */
export function ArtifactById({ id }: { id: bigint }) {
  const [artifact, error] = useLoaded((signal) => artifacts.getArtifact({ artifactId: id }, { signal }), [id]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!artifact) return <div class="artifact loading">Loading…</div>;
  return <ArtifactCard artifact={artifact} />;
}

function ArtifactCard({ artifact }: { artifact: Artifact }) {
  const [open, setOpen] = useState(false);
  const metadata = artifact.metadata ?? {};
  const charts = drawn(artifact.type, metadata);
  const kind = artifact.type.replace(/^system\./, "");
  return (
    <div class="artifact">
      <div class="head">
        <span class="kind">{kind}</span>
        <span class="size">{artifact.present ? bytes(Number(artifact.sizeBytes)) : "no content"}</span>
        {artifact.present ? (
          <span class="actions">
            <button type="button" class="quiet small" aria-expanded={open} onClick={() => setOpen(!open)}>
              {open ? "Hide" : "Preview"}
            </button>
            <Download artifact={artifact} />
          </span>
        ) : null}
      </div>
      <div class="uri">
        <code title={artifact.uri}>{artifact.uri}</code>
        <Copy text={artifact.uri} label="Copy the URI" />
      </div>
      {charts.length > 0 ? (
        charts.map(([slice, metrics]) => <ClassificationView key={slice} metrics={metrics} />)
      ) : (
        <Values values={metadata} label="Metadata" />
      )}
      {open ? <Preview artifact={artifact} /> : null}
    </div>
  );
}

/** A link where one is enough; with a token the page fetches, since a link cannot carry it. */
function Download({ artifact, path = "" }: { artifact: Artifact; path?: string }) {
  const query = path ? `?path=${encodeURIComponent(path)}` : "";
  const url = `/apis/flumina.pipelines/v1/artifacts/${artifact.artifactId}:download${query}`;
  const name = path.split("/").pop() || artifact.name;
  const fetchIt = async () => {
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token()}` } });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  if (artifact.directory && !path) return null;
  return token() ? (
    <button type="button" class="quiet small" onClick={() => void fetchIt()}>
      Download
    </button>
  ) : (
    <a class="button quiet small" href={url} download={name}>
      Download
    </a>
  );
}

function Preview({ artifact }: { artifact: Artifact }) {
  if (artifact.directory) return <Directory artifact={artifact} />;
  if (artifact.type === "system.HTML") return <HtmlArtifact artifact={artifact} />;
  return <FilePreview artifact={artifact} path="" />;
}

function Directory({ artifact }: { artifact: Artifact }) {
  const id = artifact.artifactId;
  const [shown, setShown] = useState("");
  const [found, error] = useLoaded(
    (signal) => artifacts.listArtifactFiles({ artifactId: id, pageSize: 200 }, { signal }),
    [id],
  );
  if (error) return <Notice kind="bad">{error}</Notice>;
  return (
    <ul class="files">
      {found?.files.map((file) => (
        <li key={file.path}>
          <button
            type="button"
            class="link"
            aria-expanded={shown === file.path}
            onClick={() => setShown(shown === file.path ? "" : file.path)}
          >
            {file.path}
          </button>
          <span class="size">{bytes(Number(file.sizeBytes))}</span>
          <Download artifact={artifact} path={file.path} />
          {shown === file.path ? <FilePreview artifact={artifact} path={file.path} /> : null}
        </li>
      ))}
      {found?.nextPageToken ? <li class="more">and more</li> : null}
    </ul>
  );
}

function FilePreview({ artifact, path }: { artifact: Artifact; path: string }) {
  const id = artifact.artifactId;
  const [found, error] = useLoaded((signal) => readBeginning(id, path, PREVIEW, signal), [id, path]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!found) return <p class="loading">Loading…</p>;
  const { data, total } = found;
  const image = imageType(data);
  if (image) return <ImagePreview artifact={artifact} path={path} type={image} total={total} />;
  // A zero byte does not occur in text.
  if (data.includes(0)) return <p class="note">Not text: {bytes(total)} of other data.</p>;
  const text = new TextDecoder().decode(data);
  if (artifact.type === "system.Markdown" && data.length === total) return <Markdown text={text} />;
  return (
    <>
      <pre class="preview" tabIndex={0}>
        {pretty(text, data.length === total)}
      </pre>
      {data.length < total ? (
        <p class="note">
          The first {bytes(data.length)} of {bytes(total)}.
        </p>
      ) : null}
    </>
  );
}

function pretty(text: string, whole: boolean): string {
  if (!whole || !/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function imageType(data: Uint8Array): string {
  const start = String.fromCharCode(...data.subarray(0, 12));
  if (start.startsWith("\u0089PNG\r\n")) return "image/png";
  if (start.startsWith("\u00ff\u00d8\u00ff")) return "image/jpeg";
  if (start.startsWith("GIF8")) return "image/gif";
  return start.startsWith("RIFF") && start.endsWith("WEBP") ? "image/webp" : "";
}

function ImagePreview({ artifact, path, type, total }: { artifact: Artifact; path: string; type: string; total: number }) {
  const [url, setUrl] = useState("");
  const id = artifact.artifactId;
  useEffect(() => {
    const stop = new AbortController();
    let made = "";
    if (total <= REPORT) {
      void readBeginning(id, path, REPORT, stop.signal).then(({ data }) => {
        made = URL.createObjectURL(new Blob([data], { type }));
        setUrl(made);
      });
    }
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [id, path, type, total]);
  if (total > REPORT) return <p class="note">A picture of {bytes(total)}, too large to show here.</p>;
  return url ? <img class="preview" src={url} alt={path || artifact.name} /> : <p class="loading">Loading…</p>;
}

/**
 * A report in HTML, drawn in a frame whose origin is its own: its scripts run, and reach neither this page, nor the
 * API, nor any other host.
 */
export function HtmlArtifact({ artifact }: { artifact: Artifact }) {
  const id = artifact.artifactId;
  const [found, error] = useLoaded((signal) => readBeginning(id, "", REPORT, signal), [id]);
  const [frame, setFrame] = useState<HTMLIFrameElement | null>(null);
  useEffect(() => {
    if (!frame || !found) return;
    const ready = (event: MessageEvent) => {
      if (event.source !== frame.contentWindow || event.data !== "ready") return;
      removeEventListener("message", ready);
      // An opaque origin has no name that could be given here.
      frame.contentWindow?.postMessage(new TextDecoder().decode(found.data), "*");
    };
    addEventListener("message", ready);
    frame.src = "/frame.html";
    return () => removeEventListener("message", ready);
  }, [frame, found]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  if (!found) return <p class="loading">Loading…</p>;
  if (found.total > found.data.length) return <p class="note">A report of {bytes(found.total)}, too large to show here.</p>;
  return <iframe ref={setFrame} class="report" title={`Report ${artifact.name}`} sandbox="allow-scripts" />;
}

export function MarkdownArtifact({ artifact }: { artifact: Artifact }) {
  const id = artifact.artifactId;
  const [found, error] = useLoaded((signal) => readBeginning(id, "", REPORT, signal), [id]);
  if (error) return <Notice kind="bad">{error}</Notice>;
  return found ? <Markdown text={new TextDecoder().decode(found.data)} /> : <p class="loading">Loading…</p>;
}

function Markdown({ text }: { text: string }) {
  return (
    <div class="markdown">
      {markdown(text).map((block, index) => (
        <BlockView key={index} block={block} />
      ))}
    </div>
  );
}

function BlockView({ block }: { block: Block }) {
  switch (block.kind) {
    case "heading": {
      // The page has its own first two levels.
      const Tag = `h${Math.min(block.level + 2, 6)}` as "h3";
      return <Tag>{spans(block.inline)}</Tag>;
    }
    case "paragraph":
      return <p>{spans(block.inline)}</p>;
    case "quote":
      return <blockquote>{spans(block.inline)}</blockquote>;
    case "code":
      return <pre class="preview">{block.text}</pre>;
    case "rule":
      return <hr />;
    case "list": {
      const Tag = block.ordered ? "ol" : "ul";
      return <Tag>{block.items.map((item, index) => <li key={index}>{spans(item)}</li>)}</Tag>;
    }
    case "table":
      return (
        <table>
          <thead>
            <tr>{block.head.map((cell, index) => <th key={index}>{spans(cell)}</th>)}</tr>
          </thead>
          <tbody>
            {block.rows.map((row, index) => (
              <tr key={index}>{row.map((cell, column) => <td key={column}>{spans(cell)}</td>)}</tr>
            ))}
          </tbody>
        </table>
      );
  }
}

const TAGS = { strong: "strong", em: "em", code: "code", strike: "s" } as const;

const spans = (found: Inline[]) =>
  found.map((part, index) => {
    if (part.kind === "text") return part.text;
    if (part.kind === "link") {
      return (
        <a key={index} href={part.href} target="_blank" rel="noopener noreferrer">
          {part.text}
        </a>
      );
    }
    const Tag = TAGS[part.kind];
    return <Tag key={index}>{part.text}</Tag>;
  });
