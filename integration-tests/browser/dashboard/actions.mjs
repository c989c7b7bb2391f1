// What a person does to a run, and a server that asks who they are.
import { focus, input, open, run, tabTo } from "./browser.mjs";

/** Stopping, retrying and running again, by keys where it matters. */
export async function actions() {
  const { context, page } = await open();
  const pill = page.locator(".run-head .pill");
  const dialog = page.locator("dialog[open]");
  const offered = {};
  const buttons = () => page.locator(".run-head .actions > button").allInnerTexts();
  const until = (text) => pill.filter({ hasText: text }).waitFor();

  // Stop: first declined, then done, by keys alone.
  await page.goto(run(input.runs.patient));
  await until("Running");
  offered.patient = await buttons();
  await tabTo(page, "Stop the run");
  // Several times without a pause: a dialog that was just closed does not stand in the way of the next.
  for (let times = 0; times < 5; times += 1) {
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  }
  const found = { offered, declined: await pill.innerText(), focus: await focus(page) };
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

/** Stopping a run, and then the task that cleans up after it. */
export async function stopTwice() {
  const { context, page } = await open();
  const pill = page.locator(".run-head .pill");
  const task = (name, state) => page.locator("[role=row]", { hasText: name }).locator(`.icon.${state}`);
  const confirm = async (button) => {
    const dialog = page.locator("dialog[open]");
    const asked = await dialog.innerText();
    await dialog.getByRole("button", { name: button, exact: true }).click();
    await dialog.waitFor({ state: "detached" });
    return asked;
  };
  await page.goto(run(input.runs.guarded));
  await task("work", "running").waitFor();
  await page.getByRole("button", { name: "Stop the run" }).click();
  const found = { first: await confirm("Stop the run") };
  await pill.filter({ hasText: "Stopping" }).waitFor();
  await task("work", "stopped").waitFor();
  await task("clean-up", "running").waitFor();
  found.sentence = await page.locator(".sentence").innerText();
  await page.getByRole("button", { name: "Stop exit tasks too" }).click();
  found.second = await confirm("Stop them");
  await pill.filter({ hasText: "Stopped" }).waitFor();
  await task("clean-up", "stopped").waitFor();
  found.bar = await page.locator("[role=row]", { hasText: "clean-up" }).locator(".bar.run").getAttribute("class");
  found.buttons = await page.locator(".run-head .actions > button").allInnerTexts();
  await context.close();
  return found;
}

/** A server that wants a token. */
export async function locked() {
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
