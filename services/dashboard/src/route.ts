// Where the page is, as it stands in the URL after `#`: what is reloaded, linked and gone back to.
export const VIEWS = ["timeline", "graph", "metrics", "io"] as const;
export type View = (typeof VIEWS)[number];
export const PANELS = ["overview", "logs", "io", "code"] as const;
export type Panel = (typeof PANELS)[number];

export interface RunsRoute {
  page: "runs";
  /** Text that the name must contain. */
  name: string;
  /** A state such as `FAILED`; empty for all. */
  state: string;
}

export interface RunRoute {
  page: "run";
  runId: string;
  view: View;
  /** The task whose drawer is open; empty for none. */
  task: string;
  panel: Panel;
  /** The group whose graph is shown; empty for the whole pipeline. */
  group: string;
}

export interface CompareRoute {
  page: "compare";
  runIds: string[];
}

export type Route = RunsRoute | RunRoute | CompareRoute;

function oneOf<T extends string>(known: readonly T[], text: string | null): T {
  return known.find((value) => value === text) ?? (known[0] as T);
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  const found = new URLSearchParams(query);
  const run = /^\/runs\/details\/([^/]+)\/?$/.exec(path);
  if (run) {
    return {
      page: "run",
      runId: decode(run[1] ?? ""),
      view: oneOf(VIEWS, found.get("view")),
      task: found.get("task") ?? "",
      panel: oneOf(PANELS, found.get("panel")),
      group: found.get("group") ?? "",
    };
  }
  if (/^\/compare\/?$/.test(path)) {
    const ids = (found.get("runlist") ?? "").split(",").filter((id) => id !== "");
    return { page: "compare", runIds: [...new Set(ids)] };
  }
  return { page: "runs", name: found.get("name") ?? "", state: found.get("state") ?? "" };
}

/** What is as it is by default is not written. */
export function formatRoute(route: Route): string {
  const query = new URLSearchParams();
  const set = (key: string, value: string, usual = "") => {
    if (value !== usual) query.set(key, value);
  };
  let path = "/runs";
  if (route.page === "run") {
    path = `/runs/details/${encodeURIComponent(route.runId)}`;
    set("view", route.view, VIEWS[0]);
    set("group", route.group);
    set("task", route.task);
    if (route.task) set("panel", route.panel, PANELS[0]);
  } else if (route.page === "compare") {
    // Commas as they are: upstream's links look so.
    return `#/compare?runlist=${route.runIds.map(encodeURIComponent).join(",")}`;
  } else {
    set("name", route.name);
    set("state", route.state);
  }
  const text = query.toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

export function runRoute(runId: string): RunRoute {
  return { page: "run", runId, view: "timeline", task: "", panel: "overview", group: "" };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
