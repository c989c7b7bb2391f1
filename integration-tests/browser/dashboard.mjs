// Drives the run page in Chromium as people do. Reads one JSON object from standard input, writes one: what was found,
// by check. What must hold of it stands in ../conformance/dashboard.py.
import { actions, locked, stopTwice } from "./dashboard/actions.mjs";
import { browser, complaints, hosts } from "./dashboard/browser.mjs";
import { large, live } from "./dashboard/measured.mjs";
import { report } from "./dashboard/report.mjs";
import { backOff, cause, keyboard, loop } from "./dashboard/run.mjs";
import { compare, conditions, list, liveList } from "./dashboard/runs.mjs";
import { colours, narrow, pictures } from "./dashboard/views.mjs";

const found = {};

/** Checks one after the other. */
async function inTurn(checks) {
  for (const [name, check] of Object.entries(checks)) {
    const begun = performance.now();
    try {
      found[name] = { value: await check() };
    } catch (error) {
      found[name] = { error: String(error.stack ?? error).slice(0, 3000) };
    }
    found[name].seconds = Math.round(performance.now() - begun) / 1000;
  }
}

await inTurn({ large, live });
// Each waits for the server and the page more than it computes. Those of a line see what the ones before it did.
await Promise.all([
  inTurn({ pictures }),
  inTurn({ list, conditions, liveList, compare, locked }),
  inTurn({ cause, loop, report, keyboard, backOff, colours, stopTwice, narrow }),
]);
await inTurn({ actions });
found.hosts = { value: [...hosts] };
found.complaints = { value: complaints };
await browser.close();
console.log(JSON.stringify(found));
