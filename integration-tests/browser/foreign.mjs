// Drives Chromium as a person who has Flumina running and a foreign page open. Reads one JSON object from standard
// input, writes one: what each page learned, the answers that the browser let its tools see (not those that it keeps
// from pages of other origins), and what the server counted.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const input = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(`${input.nodeModules}/`)("playwright-core");
const script = readFileSync(new URL("attacks.js", import.meta.url));

// The attacker's own site, on all loopback names.
const site = createServer((request, response) => {
  const isScript = request.url === "/attacks.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? script : PAGE);
});
const PAGE = "<!doctype html><title>foreign</title><body><script src='/attacks.js'></script>";
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
const sitePort = site.address().port;
const port = new URL(input.target).port;

const browser = await chromium.launch({
  executablePath: input.chromium,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
    // The browser's own guard of local addresses is off: not every browser has one.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessRespectPreflightResults",
  ],
});

/** A page of its own context, and what the server answered to it. */
async function open(options = {}) {
  const context = await browser.newContext(options);
  const answers = [];
  context.on("response", (response) => {
    if (isOurs(response)) {
      answers.push([response.request().method(), new URL(response.url()).pathname, response.status()]);
    }
  });
  return { context, page: await context.newPage(), answers };
}

async function attackFrom(name, url, target, { rebound = false, sandboxed = false } = {}) {
  const { context, page, answers } = await open();
  if (rebound) {
    // The page came from the attacker before the name was pointed at this machine; now it is same-origin with it.
    await context.route(`http://evil.test:${port}/attacks.html`, (route) =>
      route.fulfill({ contentType: "text/html", body: `<!doctype html><body><script>${script}</script>` }));
  }
  await page.goto(url);
  let frame = page.mainFrame();
  if (sandboxed) {
    await page.setContent(`<iframe sandbox="allow-scripts allow-forms" srcdoc="<body></body>"></iframe>`);
    frame = page.frames()[1];
    await frame.evaluate(String(script));
  }
  const learned = await frame.evaluate((options) => window.attack(options), { ...input.attack, target });
  // Navigations of a whole window: forms, a link, and a window whose content its opener tries to read.
  for (const [kind, go] of Object.entries(sandboxed ? {} : NAVIGATIONS)) {
    const window = await context.newPage();
    await window.goto(url);
    const answered = context.waitForEvent("response", { predicate: isOurs, timeout: 20000 });
    // An error is what a page gets for looking at another's window.
    learned[kind] = await window.evaluate(go, { ...input.attack, target }).catch(() => "nothing");
    await answered;
  }
  // The browser's end closes what a page may leave hanging.
  return { name, learned, answers };
}

const isOurs = (response) => new URL(response.url()).port === port;

// These run in the page.
const postFrom = (enctype) => `(async (options) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", enctype: "${enctype}", action: options.target + "/apis/v2beta1/runs" });
  const [name, value] = [options.run.replace(/}$/, ',"description":"'), '"}'];
  form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  setTimeout(() => form.submit());
  return "nothing";
})`;
const NAVIGATIONS = {
  "form of the window, urlencoded": eval(postFrom("application/x-www-form-urlencoded")),
  "form of the window, text": eval(postFrom("text/plain")),
  "form of the window, multipart": eval(postFrom("multipart/form-data")),
  "a window that is read": async (options) => {
    const other = window.open(`${options.target}/apis/v2beta1/runs`);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const text = other.document.body.innerText;
    return /not allowed|not one that/.test(text) || !text ? "nothing" : text;
  },
  "a link": async (options) => {
    setTimeout(() => (location.href = `${options.target}/apis/v2beta1/runs`));
    return "nothing";
  },
};

/** The server's own origin: what a page of Flumina may do, with the same bodies as the attacks. */
async function ownPage() {
  // The page that is there today needs no connections, and says so; the next one will.
  const { context, page, answers } = await open({ bypassCSP: true });
  const response = await page.goto(`${input.target}/`);
  const headers = response.headers();
  const statuses = await page.evaluate(async ({ run, pipelineFile, grpcWeb }) => {
    const form = new FormData();
    form.append("uploadfile", new File([pipelineFile], "pipeline.yaml"));
    const bytes = Uint8Array.from(atob(grpcWeb), (letter) => letter.charCodeAt(0));
    const json = { "content-type": "application/json" };
    const answers = {
      list: await fetch("/apis/v2beta1/runs"),
      create: await fetch("/apis/v2beta1/runs", { method: "POST", headers: json, body: run }),
      text: await fetch("/apis/v2beta1/runs", { method: "POST", headers: { "content-type": "text/plain" }, body: run }),
      upload: await fetch("/apis/v2beta1/pipelines/upload?name=own", { method: "POST", body: form }),
      grpcWeb: await fetch("/kubeflow.pipelines.backend.api.v2beta1.RunService/CreateRun", {
        method: "POST",
        headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" },
        body: bytes,
      }),
    };
    const found = {};
    for (const [name, answer] of Object.entries(answers)) {
      const text = await answer.text();
      const trailer = /grpc-status: ?(\d+)/.exec(text)?.[1] ?? answer.headers.get("grpc-status");
      found[name] = name === "grpcWeb" ? `${answer.status} ${trailer}` : answer.status;
    }
    return found;
  }, input.attack);
  const download = await page.evaluate(async (path) => {
    const answer = await fetch(path);
    return Object.fromEntries(answer.headers);
  }, `/apis/flumina.pipelines/v1/artifacts/${input.attack.artifactId}:download`);
  await context.close();
  return { statuses, headers, download, answers };
}

/** The port for metrics, as a page of `url` reaches it at `target`: what was read and done there. */
async function adminFrom(name, url, target) {
  const { context, page } = await open();
  await context.route(`http://evil.test:${adminPort}/attacks.html`, (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html><body>" }));
  const statuses = [];
  context.on("response", (response) => {
    const { port, pathname } = new URL(response.url());
    if (port === adminPort && pathname !== "/attacks.html") statuses.push(response.status());
  });
  await page.goto(url);
  const learned = await page.evaluate(async (target) => {
    const tries = {
      metrics: ["/metrics", {}],
      "metrics, unseen": ["/metrics", { mode: "no-cors" }],
      readiness: ["/readyz", {}],
      "the log filter": ["/log-filter", { method: "PUT", body: "trace" }],
    };
    const found = {};
    for (const [name, [path, options]] of Object.entries(tries)) {
      const answer = await fetch(target + path, options).catch(() => null);
      found[name] = answer?.ok ? (await answer.text()) || "done" : "nothing";
    }
    return found;
  }, target);
  await context.close();
  return { name, learned, statuses };
}

const adminPort = new URL(input.admin).port;
const other = `http://127.0.0.1:${sitePort}/`;
const named = `http://localhost:${port}`;
const rebound = `http://evil.test:${port}`;
const pages = [
  ["another port", other, input.target],
  ["another port, our other name", other, named],
  ["another name", `http://localhost:${sitePort}/`, input.target],
  ["a foreign name", `http://evil.test:${sitePort}/`, input.target],
  ["a rebound name", `${rebound}/attacks.html`, rebound, { rebound: true }],
  ["a sandboxed frame", other, input.target, { sandboxed: true }],
];
const results = [];
const counted = async () => (await fetch(`${input.admin}/metrics`)).text();
const before = await counted();
// Two at a time: each waits for the network more than for the processor.
const queue = [...pages];
await Promise.all([1, 2].map(async () => {
  for (let next = queue.shift(); next; next = queue.shift()) results.push(await attackFrom(...next));
}));
const after = await counted();
const reboundAdmin = `http://evil.test:${adminPort}`;
const admin = [
  await adminFrom("another port", other, input.admin),
  await adminFrom("a foreign name", `http://evil.test:${sitePort}/`, input.admin),
  await adminFrom("a rebound name", `${reboundAdmin}/attacks.html`, reboundAdmin),
];
results.push({ name: "own", ...(await ownPage()) });
await browser.close();
site.close();
console.log(JSON.stringify({ results, admin, before, after }));
