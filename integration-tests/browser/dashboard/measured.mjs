// What is measured; nothing else goes on meanwhile.
import { create, input, open, picture, run } from "./browser.mjs";

/** How long a large run takes to open, from the start of the navigation until it can be read and used. */
export async function large() {
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
      await page.screenshot(picture("large"));
    }
    await context.close();
  }
  return { times, drawn };
}

/** Lines on the screen while they are printed, a reload in the middle, and what is there in the end. */
export async function live() {
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
  await page.waitForFunction((count) => window.seen.size > count + 22, already.length, { timeout: 60000 });
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
  await page.screenshot(picture("logs"));
  await context.close();
  return { late, place, hits, last };
}
