// What all checks share: the input, the browser, pages and calls.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

export const input = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(`${input.nodeModules}/`)("playwright-core");
mkdirSync(input.logs, { recursive: true });

export const browser = await chromium.launch({
  executablePath: input.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
});
export const hosts = new Set();
export const complaints = [];

/** A page of its own context; requests and complaints of all pages are collected. */
export async function open(options = {}, said = complaints) {
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

export const at = (hash) => `${input.target}/${hash}`;
export const run = (id, rest = "") => at(`#/runs/details/${id}${rest}`);
export const picture = (name) => ({ path: join(input.logs, `${name}.png`) });

export async function call(method, path, body) {
  const answer = await fetch(`${input.target}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const said = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${said}`);
  return said ? JSON.parse(said) : {};
}

export async function create(spec, name) {
  return (await call("POST", "/apis/v2beta1/runs", { display_name: name, pipeline_spec: spec })).run_id;
}

/** Requests of a page that have an end and have not come to it; what a page watches has none. */
export function pending(page) {
  const open = new Set();
  const ended = (request) => open.delete(request);
  page.on("request", (request) => /\/Watch\w*$/.test(request.url()) || open.add(request));
  page.on("requestfinished", ended);
  page.on("requestfailed", ended);
  return open;
}

/** Waits until a view shows what it has: nothing is loading, and drawing it asked for nothing more. */
export async function settled(page, requests) {
  await page.locator("main").waitFor();
  for (let calm = 0; calm < 3; ) {
    await page.waitForFunction(() => !document.querySelector(".loading"));
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    calm = requests.size === 0 ? calm + 1 : 0;
  }
}

/** Presses Tab until what has the focus is called so. */
export async function tabTo(page, name, most = 40) {
  for (let presses = 0; presses < most && (await focus(page)) !== name; presses += 1) await page.keyboard.press("Tab");
  return focus(page);
}

export const focus = (page) =>
  page.evaluate(() => document.activeElement?.getAttribute("aria-label") || document.activeElement?.textContent || "");
