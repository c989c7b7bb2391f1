// The list of runs: its filters, its conditions, what changes in it, and runs beside each other.
import { at, call, create, input, open } from "./browser.mjs";

/** Waits until the list shows these runs and no others. */
async function until(page, names) {
  await page.waitForFunction(
    (wanted) => [...document.querySelectorAll(".run-table td.name a")].map((link) => link.textContent).sort().join() === wanted,
    [...names].sort().join(),
  );
  return page.locator(".run-table tbody td.name a").allInnerTexts();
}

/** The list and its filters. */
export async function list() {
  const { context, page } = await open();
  await page.goto(at(""));
  const all = await until(page, input.names);
  await page.getByLabel("Filter by name or condition").fill("fail");
  const named = await until(page, ["failing"]);
  const url = page.url();
  await page.reload();
  const reloaded = await until(page, ["failing"]);
  await page.getByLabel("Filter by name or condition").fill("");
  await page.getByRole("button", { name: "Failed", exact: true }).click();
  const failed = await until(page, ["failing", "healing", "looping"]);
  await page.locator(".run-table tbody tr").first().click();
  await page.locator(".sentence").waitFor();
  const inside = page.url();
  await page.goBack();
  await page.locator(".run-table").waitFor();
  const back = page.url();
  await context.close();
  return { all, named, url, reloaded, failed, inside, back };
}

/** A list that nobody reloads: runs come, change and go in it, also while the connection is broken. */
export async function liveList() {
  const { context, page } = await open({}, []);
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  const row = (name) => page.getByRole("row", { name: new RegExp(`^Choose ${name} `) });
  const tag = (id, set) => call("POST", `/apis/flumina.pipelines/v1/runs/${id}:tag`, { set });
  await page.goto(at("#/runs"));
  await row("measured").waitFor();
  const before = asked.length;
  await row("measured").getByRole("checkbox").check();
  const begun = Date.now();
  const first = await create(input.specs.quick, "newcomer");
  await row("newcomer").waitFor();
  const found = { appeared: Date.now() - begun };
  await row("newcomer").locator(".pill.good").waitFor();
  await tag(first, { "my team": "a b" });
  await row("newcomer").getByRole("button", { name: "my team: a b" }).waitFor();
  found.asked = asked.slice(before);
  found.stillChosen = await row("measured").getByRole("checkbox").isChecked();

  // The condition of a name with a space.
  await row("newcomer").getByRole("button", { name: "my team: a b" }).click();
  await until(page, ["newcomer"]);
  found.box = await page.getByLabel("Filter by name or condition").inputValue();
  await context.setOffline(true);
  const second = await create(input.specs.quick, "latecomer");
  await tag(second, { "my team": "a b" });
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await context.setOffline(false);
  await until(page, ["latecomer", "newcomer"]);
  await tag(second, { "my team": "c" });
  await until(page, ["newcomer"]);
  for (const id of [first, second]) await call("DELETE", `/apis/v2beta1/runs/${id}`);
  await page.getByText("No run is like this.").waitFor();
  await context.close();
  return found;
}

/** Conditions that a person does not write. */
export async function conditions() {
  const { context, page } = await open();
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
  const form = await until(page, ["measured"]);
  await page.goto(at("#/runs"));
  await page.locator(".run-table").waitFor();
  await add("Parameter", "rows", ">=", "50");
  await until(page, ["failing", "mended"]);
  await add("Pipeline", "", "=", "failing");
  await page.waitForFunction(() => location.hash.includes("pipeline"));
  await page.locator(".run-table").waitFor();
  const box = page.getByLabel("Filter by name or condition");
  // The box follows the address with the next frame.
  await page.waitForFunction((input) => input.value.includes("pipeline"), await box.elementHandle());
  const written = await box.inputValue();
  const byForm = await until(page, ["failing", "mended"]);
  await page.goto(at("#/runs"));
  await page.getByRole("button", { name: "team: red" }).click();
  const byTag = await until(page, ["attack"]);
  await page.goto(at("#/runs"));
  await page.getByRole("row", { name: "attack" }).getByRole("button", { name: "measured" }).click();
  const byPipeline = await until(page, ["attack", "measured"]);
  await add("State", "", "=", "ASLEEP");
  const refused = await page.locator(".notice.bad").innerText();
  await context.close();
  return { form, written, byForm, byTag, byPipeline, refused };
}

/** Two runs that were chosen in the list. */
export async function compare() {
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
  // Of the same pipeline with one line of code changed.
  await page.goto(at(`#/compare?runlist=${input.runs.failed},${input.runs.mended}`));
  await table.waitFor();
  found.changed = {
    lines: await table.locator(".lines-of > div").evaluateAll((lines) => lines.map((line) => [line.className, line.innerText])),
    marked: await table.locator(".lines-of b").allInnerTexts(),
    rows: await table.locator("th[scope=row]").allInnerTexts(),
  };
  await page.goto(at(`#/compare?runlist=${input.runs.attack}`));
  found.tooFew = await page.locator(".notice.bad").innerText();
  await page.goto(at(`#/compare?runlist=${input.runs.attack},01a20000-0000-7000-8000-000000000000`));
  found.unknown = await page.locator(".notice.bad").innerText();
  await context.close();
  return found;
}
