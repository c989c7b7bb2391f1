// The web page of Flumina: runs, and what happened in each.
import { render } from "preact";

import "./style/base.css";
import "./style/parts.css";
import "./style/runs.css";
import "./style/run.css";
import "./style/graph.css";
import "./style/drawer.css";
import "./style/compare.css";
import "./style/narrow.css";
import { useRoute } from "./ui/common.js";
import { ComparePage } from "./ui/compare.js";
import { RunPage } from "./ui/run.js";
import { RunsPage } from "./ui/runs.js";
import { ThemeButton } from "./ui/theme.js";
import { TokenDialog } from "./ui/token.js";

function App() {
  const route = useRoute();
  return (
    <>
      <header class="top">
        <a class="brand" href="#/runs">
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M3 16c4 0 4-4 8-4s4-4 10-4" />
            <path d="M3 20c6 0 6-4 10-4s4-3 8-3" />
          </svg>
          Flumina
        </a>
        <nav aria-label="Main">
          <a href="#/runs" aria-current={route.page === "runs" ? "page" : undefined}>
            Runs
          </a>
        </nav>
        <ThemeButton />
      </header>
      {route.page === "run" ? <RunPage key={route.runId} route={route} /> : null}
      {route.page === "compare" ? <ComparePage key={route.runIds.join()} route={route} /> : null}
      {route.page === "runs" ? <RunsPage route={route} /> : null}
      <TokenDialog />
    </>
  );
}

const place = document.getElementById("page");
if (place) render(<App />, place);
