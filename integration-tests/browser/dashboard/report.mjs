// Artifacts that draw themselves.
import { input, open, run } from "./browser.mjs";

/** An HTML artifact that attacks whatever it can reach. */
export async function report() {
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
