// Every view: pictures for people, names for those who do not see them, and whether it fits a phone.
import { at, input, open, pending, picture, run, settled } from "./browser.mjs";

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
    changed: at(`#/compare?runlist=${failed},${input.runs.mended}`),
    large: run(input.runs.large),
  };
}

const SCHEMES = ["light", "dark"];

/** A picture of every view in both colour schemes; what can be operated in it and has no name. */
export async function pictures() {
  const { context, page } = await open();
  const requests = pending(page);
  const nameless = {};
  for (const [view, url] of Object.entries(views())) {
    await page.goto("about:blank");
    await page.goto(url);
    await settled(page, requests);
    nameless[view] = await page.evaluate(withoutName);
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot(picture(`${view}-${colorScheme}`));
    }
  }
  await questions(page, requests);
  await context.close();
  return nameless;
}

/** Runs in the page. */
function withoutName() {
  return [...document.querySelectorAll("a, button, input, select, iframe, [role], svg:not([aria-hidden])")]
    .filter((element) => !["presentation", "row", "gridcell", "group"].includes(element.getAttribute("role") ?? ""))
    .filter((element) => !element.closest("[aria-hidden=true]"))
    .filter((element) => {
      const label = element.closest("label")?.textContent;
      const named = element.getAttribute("aria-label") || element.getAttribute("title") || element.getAttribute("aria-labelledby");
      return !(named || label || element.textContent.trim());
    })
    .map((element) => element.outerHTML.slice(0, 200));
}

/** What is asked before something is done, and the list with its form open. */
async function questions(page, requests) {
  const both = async (view) => {
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot(picture(`${view}-${colorScheme}`));
    }
  };
  await page.goto(run(input.runs.failed));
  for (const [view, button] of [["again", "Run again…"], ["retry", "Retry"]]) {
    await page.getByRole("button", { name: button }).click();
    await page.locator("dialog[open]").waitFor();
    await both(view);
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
  }
  await page.goto(at("#/runs"));
  await settled(page, requests);
  await page.getByLabel("Choose failing").check();
  await page.getByLabel("Choose measured").check();
  await page.getByRole("button", { name: "+ Condition" }).click();
  await both("chosen");
}

/** Every view on a phone: what is wider than its screen. */
export async function narrow() {
  const { context, page } = await open({ viewport: { width: 390, height: 844 } });
  const requests = pending(page);
  const wide = {};
  for (const [view, url] of Object.entries(views())) {
    await page.goto("about:blank");
    await page.goto(url);
    await settled(page, requests);
    await page.screenshot(picture(`${view}-narrow`));
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (beyond > 0) wide[view] = beyond;
  }
  await context.close();
  return wide;
}

/** The colours of the page: those of the system until a person chooses. */
export async function colours() {
  const { context, page } = await open();
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const found = {};
  await page.goto(at("#/runs"));
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    found[colorScheme] = await background();
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.reload();
  found.chosen = await background();
  await context.close();
  return found;
}
