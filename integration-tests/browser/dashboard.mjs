// Drives the run page in Chromium as people do. Reads one JSON object from standard input, writes one: what was found,
// by check. What must hold of it stands in ../conformance/dashboard.py.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const input = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(`${input.nodeModules}/`)("playwright-core");
mkdirSync(input.logs, { recursive: true });

const browser = await chromium.launch({
  executablePath: input.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
});
const hosts = new Set();
const complaints = [];

/** A page of its own context; requests and complaints of all pages are collected. */
async function open(options = {}, said = complaints) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith("http") || url.protocol.startsWith("ws")) hosts.add(url.host);
  });
  page.on("console", (message) => {
    if (message.type() === "error") said.push(message.text());
  });
  page.on("pageerror", (error) => said.push(String(error)));
  return { context, page };
}

const at = (hash) => `${input.target}/${hash}`;
const run = (id, rest = "") => at(`#/runs/details/${id}${rest}`);

async function create(spec, name) {
  const answer = await fetch(`${input.target}/apis/v2beta1/runs`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ display_name: name, pipeline_spec: spec }),
  });
  return (await answer.json()).run_id;
}

/** Why a run failed, read without touching anything. */
async function cause() {
  const { context, page } = await open();
  await page.goto(run(input.runs.failed));
  await page.locator(".tail").waitFor();
  const found = {
    sentence: await page.locator(".sentence").innerText(),
    card: await page.locator("section.cause").innerText(),
    title: await page.title(),
    rows: await page.locator("[role=row]").allInnerTexts(),
    inView: await page.locator("section.cause").evaluate((card) => card.getBoundingClientRect().bottom < innerHeight),
  };
  await page.goto(run(input.runs.failed, "?task=nothing-like-this&panel=logs"));
  await page.locator(".sentence").waitFor();
  found.unknownTask = await page.locator(".drawer").count();
  await page.goto(run("01a20000-0000-7000-8000-000000000000"));
  found.missing = await page.locator(".notice.bad").innerText();
  await context.close();
  return found;
}

/** A loop: folded, opened, and as a graph. */
async function loop() {
  const { context, page } = await open();
  const names = async () => page.locator("[role=row] .name .text").allInnerTexts();
  await page.goto(run(input.runs.looping));
  await page.locator("[role=row]").first().waitFor();
  const opened = await names();
  const why = await page.locator("[role=row]", { hasText: "condition-3" }).innerText();
  await page.locator("[role=row][aria-level='1']", { hasText: "for-loop-2" }).locator(".twist").click();
  const counts = page.locator("[role=row]", { hasText: "for-loop-2" }).locator(".counts");
  const folded = { rows: (await names()).sort(), counts: await counts.innerText(), title: await counts.getAttribute("title") };
  await page.goto(run(input.runs.looping, `?view=graph&group=${input.loop}`));
  await page.locator(".node").first().waitFor();
  const graph = await page.locator(".node .title").allInnerTexts();
  await context.close();
  return { open: opened, folded, graph, why };
}

/** How long a large run takes to open, from the start of the navigation until it can be read and used. */
async function large() {
  const times = [];
  let drawn = 0;
  for (let round = 0; round < 5; round += 1) {
    const { context, page } = await open();
    await page.addInitScript(() => {
      const look = () => {
        const grid = document.querySelector("[role=treegrid]");
        const whole = Number(grid?.getAttribute("aria-rowcount")) >= 1000;
        if (whole && document.querySelector(".sentence")?.textContent && grid.querySelector("[role=row]")) {
          // The frame in which it is there has been drawn when the next begins.
          requestAnimationFrame(() => (window.readable = performance.now()));
        } else requestAnimationFrame(look);
      };
      look();
    });
    await page.goto(run(input.runs.large));
    await page.waitForFunction(() => window.readable, undefined, { timeout: 30000 });
    times.push(await page.evaluate(() => window.readable));
    drawn = await page.locator("[role=row]").count();
    if (round === 0) {
      // The last line is one key away.
      await page.locator("[role=treegrid]").press("End");
      await page.locator("[role=row][aria-rowindex='1000']").waitFor();
      await page.screenshot({ path: join(input.logs, "large.png") });
    }
    await context.close();
  }
  return { times, drawn };
}

/** Lines on the screen while they are printed, a reload in the middle, and what is there in the end. */
async function live() {
  const { context, page } = await open();
  const runId = await create(input.specs.printer, "printer");
  await page.addInitScript(() => {
    window.seen = new Map();
    const look = () => {
      for (const line of document.querySelectorAll(".lines .line .text")) {
        const tick = /^tick (\d+) (\d+\.\d+)/.exec(line.textContent ?? "");
        if (tick && !window.seen.has(tick[1])) window.seen.set(tick[1], Date.now() - 1000 * Number(tick[2]));
      }
      requestAnimationFrame(look);
    };
    addEventListener("DOMContentLoaded", look);
  });
  await page.goto(run(runId));
  await page.locator("[role=row]", { hasText: "ticks" }).click();
  await page.getByRole("tab", { name: "Logs" }).click();
  await page.waitForFunction(() => window.seen.size > 0, undefined, { timeout: 60000 });
  const already = await page.evaluate(() => [...window.seen.keys()]);
  await page.waitForFunction((count) => window.seen.size > count + 25, already.length, { timeout: 60000 });
  const late = await page.evaluate((old) => [...window.seen].filter(([tick]) => !old.includes(tick)).map(([, ms]) => ms), already);
  const url = page.url();
  await page.reload();
  await page.locator(".drawer .lines .line").first().waitFor();
  const place = { url: page.url() === url, state: await page.locator(".run-head .pill").innerText() };
  await page.locator(".run-head .pill.good").waitFor({ timeout: 60000 });
  await page.getByLabel("Search the log").fill("tick ");
  await page.locator(".hits").filter({ hasText: /of/ }).waitFor();
  const hits = await page.locator(".hits").innerText();
  await page.getByLabel("Search the log").press("Shift+Enter");
  const last = await page.locator(".line.hit").innerText();
  await page.screenshot({ path: join(input.logs, "logs.png") });
  await context.close();
  return { late, place, hits, last };
}

/** An HTML artifact that attacks whatever it can reach. */
async function report() {
  // What the browser says about the report's attempts is no complaint about the page.
  const { context, page } = await open({}, []);
  const asked = [];
  // Answers, since the browser's tools also tell of requests that its policy then kept from leaving.
  context.on("response", (response) => asked.push(`${response.frame() === page.mainFrame() ? "page" : "frame"} ${response.url()}`));
  await page.goto(run(input.runs.attack, "?view=metrics"));
  const handle = await page.locator("iframe.report").elementHandle();
  const frame = await handle.contentFrame();
  await frame.waitForFunction(() => window.done, undefined, { timeout: 20000 });
  await page.waitForTimeout(500);
  const found = {
    learned: await frame.evaluate(() => window.learned),
    origin: await frame.evaluate(() => window.origin),
    stillHere: page.url(),
    windows: context.pages().length,
    asked: asked.filter((line) => line.startsWith("frame ")),
    text: await frame.evaluate(() => document.body.innerText),
    figures: await page.locator(".figure").allInnerTexts(),
    roc: await page.locator(".roc svg").getAttribute("aria-label"),
    matrix: await page.locator(".matrix td").allInnerTexts(),
    markdown: await page.locator(".markdown").innerText(),
  };
  await context.close();
  return found;
}

/** From the list into a task's log and back, by keys alone. */
async function keyboard() {
  const { context, page } = await open();
  await page.goto(at("#/runs?name=failing"));
  await page.locator(".run-table a").first().waitFor();
  const steps = [];
  const focus = () =>
    page.evaluate(() => document.activeElement?.getAttribute("aria-label") || document.activeElement?.textContent || "");
  for (let presses = 0; presses < 30 && (await focus()) !== "failing"; presses += 1) await page.keyboard.press("Tab");
  steps.push(await focus());
  await page.keyboard.press("Enter");
  const grid = page.locator("[role=treegrid]");
  await grid.waitFor();
  for (let presses = 0; presses < 30 && (await focus()) !== "Tasks"; presses += 1) await page.keyboard.press("Tab");
  steps.push(await focus());
  const active = () => grid.evaluate((element) => document.getElementById(element.getAttribute("aria-activedescendant"))?.querySelector(".name .text")?.textContent);
  const first = await active();
  await page.keyboard.press("ArrowLeft");
  const closed = await grid.getAttribute("aria-rowcount");
  await page.keyboard.press("ArrowRight");
  const opened = await grid.getAttribute("aria-rowcount");
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowUp");
  const chosen = await active();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement?.matches(".drawer"));
  steps.push(await focus());
  for (let presses = 0; presses < 20 && (await focus()) !== "Overview"; presses += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  await page.locator("[role=log]").waitFor();
  steps.push(await focus());
  await page.keyboard.press("Escape");
  await page.locator(".drawer").waitFor({ state: "detached" });
  steps.push(await focus());
  await context.close();
  return { steps, first, closed, opened, chosen };
}

/** Everything that can be operated, and whether it has a name. */
async function names() {
  const { context, page } = await open();
  const nameless = {};
  for (const [view, url] of Object.entries(views())) {
    await page.goto("about:blank");
    await page.goto(url);
    await page.waitForLoadState("networkidle", { timeout: 2000 }).catch(() => {});
    await page.waitForTimeout(300);
    nameless[view] = await page.evaluate(() =>
      [...document.querySelectorAll("a, button, input, select, iframe, [role], svg:not([aria-hidden])")]
        .filter((element) => !["presentation", "row", "gridcell", "group"].includes(element.getAttribute("role") ?? ""))
        .filter((element) => !element.closest("[aria-hidden=true]"))
        .filter((element) => {
          const label = element.closest("label")?.textContent;
          const named = element.getAttribute("aria-label") || element.getAttribute("title") || element.getAttribute("aria-labelledby");
          return !(named || label || element.textContent.trim());
        })
        .map((element) => element.outerHTML.slice(0, 200)),
    );
  }
  await context.close();
  return nameless;
}

function views() {
  const { failed, metrics, looping } = input.runs;
  return {
    runs: at("#/runs"),
    failed: run(failed),
    loop: run(looping),
    inside: run(looping, `?view=graph&group=${input.loop}`),
    graph: run(metrics, "?view=graph"),
    metrics: run(metrics, "?view=metrics"),
    values: run(metrics, "?view=io"),
    overview: run(failed, `?task=${input.failedTask}`),
    logs: run(failed, `?task=${input.failedTask}&panel=logs`),
    artifacts: run(failed, `?task=${input.failedTask}&panel=io`),
    code: run(failed, `?task=${input.failedTask}&panel=code`),
    waiting: run(input.runs.patient, `?task=${input.patientTask}`),
    compare: at(`#/compare?runlist=${failed},${metrics},${looping}`),
    large: run(input.runs.large),
  };
}

/** A picture of every view in both colour schemes, for people. */
async function pictures() {
  const backgrounds = {};
  for (const colorScheme of ["light", "dark"]) {
    const { context, page } = await open({ colorScheme });
    for (const [view, url] of Object.entries(views())) {
      await page.goto("about:blank");
      await page.goto(url);
      await page.waitForLoadState("networkidle", { timeout: 2000 }).catch(() => {});
      await page.waitForTimeout(400);
      await page.screenshot({ path: join(input.logs, `${view}-${colorScheme}.png`) });
    }
    await questions(page, colorScheme);
    backgrounds[colorScheme] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.getByRole("button", { name: /^Colours/ }).click();
    await page.reload();
    backgrounds[`${colorScheme}, after the button`] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await context.close();
  }
  return backgrounds;
}

/** What is asked before something is done, and the list with its form open. */
async function questions(page, colorScheme) {
  await page.goto(run(input.runs.failed));
  for (const [view, button] of [["again", "Run again…"], ["retry", "Retry"]]) {
    await page.getByRole("button", { name: button }).click();
    await page.locator("dialog[open]").waitFor();
    await page.screenshot({ path: join(input.logs, `${view}-${colorScheme}.png`) });
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
  }
  await page.goto(at("#/runs"));
  await page.getByLabel("Choose failing").check();
  await page.getByLabel("Choose measured").check();
  await page.getByRole("button", { name: "+ Condition" }).click();
  await page.screenshot({ path: join(input.logs, `chosen-${colorScheme}.png`) });
}

/** The list and its filters. */
async function list() {
  const { context, page } = await open();
  const shown = async () => {
    await page.waitForTimeout(600);
    return titles(page);
  };
  await page.goto(at(""));
  await page.locator(".run-table").waitFor();
  const all = await shown();
  await page.getByLabel("Filter by name or condition").fill("fail");
  const named = await shown();
  const url = page.url();
  await page.reload();
  const reloaded = await shown();
  await page.getByLabel("Filter by name or condition").fill("");
  await page.getByRole("button", { name: "Failed", exact: true }).click();
  const failed = await shown();
  await page.locator(".run-table tbody tr").first().click();
  await page.locator(".sentence").waitFor();
  const inside = page.url();
  await page.goBack();
  await page.locator(".run-table").waitFor();
  const back = page.url();
  await context.close();
  return { all, named, url, reloaded, failed, inside, back };
}

const titles = (page) => page.locator(".run-table tbody td.name a").allInnerTexts();

/** Conditions that a person does not write. */
async function conditions() {
  const { context, page } = await open();
  const until = async (names) => {
    await page.waitForFunction(
      (wanted) => [...document.querySelectorAll(".run-table td.name a")].map((link) => link.textContent).sort().join() === wanted,
      [...names].sort().join(),
    );
    return titles(page);
  };
  const add = async (about, name, comparison, value) => {
    await page.getByRole("button", { name: "+ Condition" }).click();
    const form = page.getByRole("form", { name: "Add a condition" });
    await form.getByLabel("About").selectOption(about);
    if (name) await form.getByLabel("Name").fill(name);
    await form.getByLabel("Comparison").selectOption(comparison);
    await form.getByLabel("Value").fill(value);
    await page.keyboard.press("Enter");
  };
  await page.goto(at("#/runs?name=measured"));
  const form = await until(["measured"]);
  await page.goto(at("#/runs"));
  await page.locator(".run-table").waitFor();
  await add("Parameter", "rows", ">=", "50");
  await until(["failing"]);
  await add("Pipeline", "", "=", "failing");
  await page.waitForFunction(() => location.hash.includes("pipeline"));
  await page.locator(".run-table").waitFor();
  const box = page.getByLabel("Filter by name or condition");
  // The box follows the address with the next frame.
  await page.waitForFunction((input) => input.value.includes("pipeline"), await box.elementHandle());
  const written = await box.inputValue();
  const byForm = await until(["failing"]);
  await page.goto(at("#/runs"));
  await page.getByRole("button", { name: "team: red" }).click();
  const byTag = await until(["attack"]);
  await page.goto(at("#/runs"));
  await page.getByRole("row", { name: "attack" }).getByRole("button", { name: "measured" }).click();
  const byPipeline = await until(["attack", "measured"]);
  await add("State", "", "=", "ASLEEP");
  const refused = await page.locator(".notice.bad").innerText();
  await context.close();
  return { form, written, byForm, byTag, byPipeline, refused };
}

/** Two runs that were chosen in the list. */
async function compare() {
  const { context, page } = await open();
  await page.goto(at("#/runs"));
  await page.getByLabel("Choose attack").check();
  const one = await page.getByRole("button", { name: "Compare 1" }).isDisabled();
  await page.getByLabel("Choose failing").check();
  await page.getByRole("button", { name: "Compare 2" }).click();
  const table = page.locator(".compare-table");
  await table.waitFor();
  const found = {
    one,
    url: page.url(),
    heads: await table.locator("thead a").allInnerTexts(),
    kinds: await table.locator(".kind th").allInnerTexts(),
    rows: await table.locator("th[scope=row]").allInnerTexts(),
    accuracy: await table.getByRole("row", { name: /^accuracy/ }).locator("td").allInnerTexts(),
  };
  await page.goto(at(`#/compare?runlist=${input.runs.attack}`));
  found.tooFew = await page.locator(".notice.bad").innerText();
  await page.goto(at(`#/compare?runlist=${input.runs.attack},01a20000-0000-7000-8000-000000000000`));
  found.unknown = await page.locator(".notice.bad").innerText();
  await context.close();
  return found;
}

/** A task between two attempts. */
async function backOff() {
  const { context, page } = await open();
  await page.goto(run(input.runs.patient, `?task=${input.patientTask}`));
  const found = { drawer: await page.locator(".drawer .notice").first().innerText() };
  found.row = await page.locator("[role=row]", { hasText: "download" }).innerText();
  found.sentence = await page.locator(".sentence").innerText();
  await context.close();
  return found;
}

/** Stopping, retrying and running again, by keys where it matters. */
async function actions() {
  const { context, page } = await open();
  const pill = page.locator(".run-head .pill");
  const dialog = page.locator("dialog[open]");
  const offered = {};
  const buttons = () => page.locator(".run-head .actions > button").allInnerTexts();
  const until = (text) => pill.filter({ hasText: text }).waitFor();
  const focus = () => page.evaluate(() => document.activeElement?.textContent ?? "");

  // Stop: first declined, then done, by keys alone.
  await page.goto(run(input.runs.patient));
  await until("Running");
  offered.patient = await buttons();
  for (let presses = 0; presses < 30 && (await focus()) !== "Stop the run"; presses += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  const found = { offered, declined: await pill.innerText(), focus: await focus() };
  await page.keyboard.press("Enter");
  await dialog.getByRole("button", { name: "Stop the run" }).press("Enter");
  await until("Stopped");
  found.stopped = await pill.innerText();
  offered.stopped = await buttons();

  // Retry: the run, which had ended, is followed again. Another page asked in between is told why not.
  const other = await context.newPage();
  await other.goto(run(input.runs.healing));
  await other.getByRole("button", { name: "Retry" }).click();
  await page.goto(run(input.runs.healing));
  await until("Failed");
  offered.healing = await buttons();
  await page.getByRole("button", { name: "Retry" }).click();
  await dialog.getByRole("button", { name: "Retry" }).click();
  await until("Succeeded");
  found.healed = await pill.innerText();
  offered.healed = await buttons();
  await other.locator("dialog[open] .primary").click();
  found.stale = await other.locator("dialog[open] [role=alert]").innerText();
  await other.close();

  // Again, with another parameter.
  await page.goto(run(input.runs.failed));
  await page.getByRole("button", { name: "Run again…" }).click();
  await dialog.getByLabel("rate").fill("gentle");
  found.wrong = await dialog.locator(".field .error").innerText();
  await dialog.getByLabel("rate").fill("0.5");
  await dialog.getByLabel("Name").fill("gentler");
  await page.keyboard.press("Enter");
  await page.locator("h1", { hasText: "gentler" }).waitFor();
  await until("Succeeded");
  found.clone = /details\/([^?]+)/.exec(page.url())?.[1];
  found.runs = input.runs;
  await context.close();
  return found;
}

/** A server that wants a token. */
async function locked() {
  const { context, page } = await open();
  await page.goto(`${input.locked.target}/#/runs`);
  const field = page.locator("dialog input");
  await field.fill("wrong");
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
  await field.waitFor();
  await field.fill(input.locked.token);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
  await page.getByText("There are no runs yet").waitFor();
  await page.reload();
  await page.getByText("There are no runs yet").waitFor();
  const found = {
    url: page.url(),
    dialogs: await page.locator("dialog").count(),
    stored: await page.evaluate(() => [localStorage.length, sessionStorage.length]),
  };
  const other = await context.newPage();
  await other.goto(`${input.locked.target}/#/runs`);
  found.otherTab = await other.locator("dialog input").waitFor().then(() => "asked");
  await context.close();
  return found;
}

const checks = { cause, loop, large, live, report, keyboard, names, list, conditions, compare, backOff, pictures, actions, locked };
const found = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    found[name] = { value: await check() };
  } catch (error) {
    found[name] = { error: String(error.stack ?? error).slice(0, 3000) };
  }
}
found.hosts = { value: [...hosts] };
found.complaints = { value: complaints };
await browser.close();
console.log(JSON.stringify(found));
