// A run: why it failed, its loops, what waits, and the way through it by keys.
import { focus, input, open, run, at, tabTo } from "./browser.mjs";

/** Why a run failed, read without touching anything. */
export async function cause() {
  const { context, page } = await open();
  await page.goto(run(input.runs.failed));
  await page.locator(".tail").waitFor();
  const found = {
    sentence: await page.locator(".sentence").innerText(),
    card: await page.locator("section.cause").innerText(),
    title: await page.title(),
    rows: await page.locator("[role=row]").allInnerTexts(),
    bar: await page.locator("[role=row]", { hasText: "train" }).locator(".bar.run").evaluate((bar) => ({
      title: bar.title,
      colours: [getComputedStyle(bar).backgroundColor, getComputedStyle(document.querySelector(".swatch.run.bad")).backgroundColor],
      striped: getComputedStyle(bar).backgroundImage !== "none",
    })),
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
export async function loop() {
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

/** A task between two attempts. */
export async function backOff() {
  const { context, page } = await open();
  await page.goto(run(input.runs.patient, `?task=${input.patientTask}`));
  const found = { drawer: await page.locator(".drawer .notice").first().innerText() };
  found.row = await page.locator("[role=row]", { hasText: "download" }).innerText();
  found.sentence = await page.locator(".sentence").innerText();
  await context.close();
  return found;
}

/** From the list into a task's log and back, by keys alone. */
export async function keyboard() {
  const { context, page } = await open();
  await page.goto(at("#/runs?name=failing"));
  await page.locator(".run-table a").first().waitFor();
  const steps = [];
  steps.push(await tabTo(page, "failing"));
  await page.keyboard.press("Enter");
  const grid = page.locator("[role=treegrid]");
  await grid.waitFor();
  steps.push(await tabTo(page, "Tasks"));
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
  steps.push(await focus(page));
  await tabTo(page, "Overview");
  await page.keyboard.press("ArrowRight");
  await page.locator("[role=log]").waitFor();
  steps.push(await focus(page));
  await page.keyboard.press("Escape");
  await page.locator(".drawer").waitFor({ state: "detached" });
  steps.push(await focus(page));
  await context.close();
  return { steps, first, closed, opened, chosen };
}
