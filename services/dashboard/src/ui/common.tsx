// Small parts that all views share.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { State } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { type Counts } from "../model/run.js";
import { type Look, look, stateName } from "../model/state.js";
import { formatRoute, parseRoute, type Route } from "../route.js";

/** Where the page is. */
export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return parseRoute(hash);
}

/** Goes to a place; `replace` leaves no step for the way back. */
export function go(route: Route, replace = false): void {
  const hash = formatRoute(route);
  if (hash === location.hash) return;
  if (replace) {
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}

/** The time, again and again while `active`. */
export function useNow(active: boolean, every = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!active) return;
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [active, every]);
  // A clock that stands still must not lie before what has happened since.
  return active ? Math.max(now, Date.now()) : now;
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Flumina` : "Flumina";
  }, [title]);
}

const SHAPES: Record<Look, JSX.Element> = {
  good: <path d="M4.6 8.3l2.3 2.3 4.6-5" />,
  bad: <path d="M5.4 5.4l5.2 5.2m0-5.2l-5.2 5.2" />,
  cached: <path d="M8.9 3.8L5.2 8.7h2.6l-.7 3.6 3.8-5H8.3z" />,
  running: <path d="M8 3.6a4.4 4.4 0 1 0 4.4 4.4" class="spin" />,
  waiting: <path d="M8 5v3.2l2 1.4" />,
  skipped: <path d="M4.8 5.2L8 8l-3.2 2.8zM10.9 5.2v5.6" />,
  stopped: <path d="M5.8 5.8h4.4v4.4H5.8z" />,
};

/** A state as a picture, with its name for those who do not see it. */
export function StateIcon({ state }: { state: State }) {
  const kind = look(state);
  return (
    <svg class={`icon ${kind}`} viewBox="0 0 16 16" role="img" aria-label={stateName(state)}>
      <title>{stateName(state)}</title>
      <circle cx="8" cy="8" r="7" />
      {SHAPES[kind]}
    </svg>
  );
}

export function StatePill({ state }: { state: State }) {
  return (
    <span class={`pill ${look(state)}`}>
      <span class="dot" aria-hidden="true" />
      {stateName(state)}
    </span>
  );
}

const COUNT_NAMES: [Look, string][] = [
  ["bad", "failed"],
  ["running", "running"],
  ["waiting", "waiting"],
  ["good", "succeeded"],
  ["cached", "cached"],
  ["skipped", "skipped"],
  ["stopped", "stopped"],
];

export function countsText(counts: Counts): string {
  return COUNT_NAMES.filter(([kind]) => counts[kind])
    .map(([kind, name]) => `${counts[kind]} ${name}`)
    .join(", ");
}

/** Numbers of tasks by state, as a bar and as small figures. */
export function CountsView({ counts }: { counts: Counts }) {
  return (
    <span class="counts" title={countsText(counts)}>
      {COUNT_NAMES.filter(([kind]) => counts[kind]).map(([kind, name]) => (
        <span key={kind} class={`count ${kind}`}>
          <span class="dot" aria-hidden="true" />
          {counts[kind]}
          <span class="visually-hidden"> {name}</span>
        </span>
      ))}
    </span>
  );
}

export interface Tab<T extends string> {
  id: T;
  name: string;
  /** A number beside the name. */
  count?: number;
}

interface TabsProps<T extends string> {
  label: string;
  tabs: readonly Tab<T>[];
  active: T;
  onSelect: (tab: T) => void;
  /** The id of the element whose content the tabs change. */
  controls: string;
}

/** Tabs with the keys that people know from tabs. */
export function Tabs<T extends string>({ label, tabs, active, onSelect, controls }: TabsProps<T>) {
  const key = (event: JSX.TargetedKeyboardEvent<HTMLElement>) => {
    const at = tabs.findIndex((tab) => tab.id === active);
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: tabs.length - 1 - at }[event.key];
    const next = step === undefined ? undefined : tabs[(at + step + tabs.length) % tabs.length];
    if (!next) return;
    event.preventDefault();
    onSelect(next.id);
    document.getElementById(`${controls}-${next.id}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={key}>
      {tabs.map((tab) => (
        <button
          key={tab.id}
          id={`${controls}-${tab.id}`}
          type="button"
          role="tab"
          aria-selected={tab.id === active}
          aria-controls={controls}
          tabIndex={tab.id === active ? 0 : -1}
          onClick={() => onSelect(tab.id)}
        >
          {tab.name}
          {tab.count ? <span class="badge">{tab.count}</span> : null}
        </button>
      ))}
    </div>
  );
}

export function Notice({ kind = "info", children }: { kind?: "info" | "bad"; children: ComponentChildren }) {
  return (
    <div class={`notice ${kind}`} role={kind === "bad" ? "alert" : "status"}>
      {children}
    </div>
  );
}

export function Offline() {
  return <Notice kind="bad">The server cannot be reached. Trying again…</Notice>;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** Names with short values. */
export function Facts({ facts }: { facts: [string, string][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A button that puts a text into the clipboard and says so. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = () => {
    void navigator.clipboard.writeText(text).then(() => {
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    });
  };
  return (
    <button type="button" class="quiet small" onClick={copy} aria-label={label}>
      {done ? "Copied" : "Copy"}
    </button>
  );
}

/** Text in which names stand between backquotes. */
export function Marked({ text }: { text: string }) {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return <>{text}</>;
  return <>{parts.map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part))}</>;
}
