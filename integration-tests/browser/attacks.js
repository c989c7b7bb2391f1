// Runs inside a foreign page: everything a page can do to another origin without its help. Each attack returns what it
// learned; anything but "nothing" is a leak. What the server did is seen from outside.
window.attack = async ({ target, run, pipelineFile, grpcWeb, runId, taskId, artifactId }) => {
  const runs = `${target}/apis/v2beta1/runs`;
  const upload = `${target}/apis/v2beta1/pipelines/upload?name=foreign-`;
  const secrets = [
    "/apis/v2beta1/runs",
    "/apis/v2beta1/pipelines",
    "/apis/v2beta1/healthz",
    `/apis/flumina.pipelines/v1/runs/${runId}`,
    `/apis/flumina.pipelines/v1/runs/${runId}:watch`,
    `/apis/flumina.pipelines/v1/artifacts/${artifactId}:download`,
    `/apis/v1alpha1/runs/${runId}/nodes/${taskId}/log`,
  ].map((path) => target + path);
  const results = {};
  const attempt = async (name, action) => {
    try {
      const learned = await Promise.race([
        action(),
        new Promise((resolve) => setTimeout(() => resolve("nothing"), 2500)),
      ]);
      results[name] = learned ?? "nothing";
    } catch {
      results[name] = "nothing";
    }
  };
  // Whatever a response lets a page see; an opaque one has the status 0 and no body. A refusal tells nothing either.
  const seen = async (response) => {
    const text = await response.text();
    return response.ok && (text || response.status) ? `${response.status} ${text.slice(0, 200)}` : "nothing";
  };
  const multipart = () => {
    const form = new FormData();
    form.append("uploadfile", new File([pipelineFile], "pipeline.yaml"));
    return form;
  };
  const bytes = Uint8Array.from(atob(grpcWeb), (letter) => letter.charCodeAt(0));
  const grpcUrl = `${target}/kubeflow.pipelines.backend.api.v2beta1.RunService/CreateRun`;

  for (const mode of ["no-cors", "cors"]) {
    for (const credentials of ["omit", "include"]) {
      const options = { mode, credentials, method: "POST" };
      const kind = `${mode} ${credentials}`;
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
        await attempt(`fetch ${kind} ${type}`, async () =>
          seen(await fetch(runs, { ...options, headers: { "content-type": type }, body: run })));
      }
      await attempt(`fetch ${kind} without type`, async () => seen(await fetch(runs, { ...options, body: new Blob([run]) })));
      await attempt(`fetch ${kind} multipart`, async () => seen(await fetch(`${upload}fetch`, { ...options, body: multipart() })));
      await attempt(`gRPC-web ${kind}`, async () =>
        seen(await fetch(grpcUrl, { ...options, headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" }, body: bytes })));
      await attempt(`gRPC-web as text ${kind}`, async () =>
        seen(await fetch(grpcUrl, { ...options, headers: { "content-type": "text/plain" }, body: bytes })));
      for (const secret of secrets) {
        await attempt(`read ${kind} ${secret}`, async () => seen(await fetch(secret, { mode, credentials })));
      }
    }
  }
  for (const method of ["DELETE", "PATCH", "PUT"]) {
    await attempt(`fetch ${method}`, async () => seen(await fetch(`${runs}/${runId}`, { method })));
  }
  await attempt("fetch keepalive", async () => seen(await fetch(runs, { method: "POST", mode: "no-cors", keepalive: true, body: run })));
  await attempt("beacon", async () => void navigator.sendBeacon(runs, new Blob([run], { type: "text/plain" })));
  await attempt("beacon with a form", async () => void navigator.sendBeacon(`${upload}beacon`, multipart()));

  const request = (method, url, type, body) =>
    new Promise((resolve) => {
      const xhr = new XMLHttpRequest();
      xhr.open(method, url);
      if (type) xhr.setRequestHeader("content-type", type);
      xhr.onload = () => resolve(xhr.status < 400 && (xhr.responseText || xhr.status) ? `${xhr.status} ${xhr.responseText}` : "nothing");
      xhr.onerror = () => resolve("nothing");
      xhr.send(body);
    });
  await attempt("XHR text", () => request("POST", runs, "text/plain", run));
  await attempt("XHR JSON", () => request("POST", runs, "application/json", run));
  await attempt("XHR multipart", () => request("POST", `${upload}xhr`, null, multipart()));
  for (const secret of secrets) await attempt(`XHR read ${secret}`, () => request("GET", secret));

  const stream = (open) =>
    new Promise((resolve) => {
      const source = open();
      source.onopen = () => resolve("opened");
      source.onmessage = (event) => resolve(`message ${event.data}`);
      source.onerror = () => resolve("nothing");
    });
  await attempt("EventSource", () => stream(() => new EventSource(`${target}/apis/flumina.pipelines/v1/runs/${runId}:watch`)));
  await attempt("WebSocket", () => stream(() => new WebSocket(`${target.replace("http", "ws")}/apis/v2beta1/runs`)));

  const element = (tag, attributes, parent = document.body) =>
    new Promise((resolve) => {
      const node = Object.assign(document.createElement(tag), attributes);
      node.onload = () => resolve(node);
      node.onerror = () => resolve(null);
      parent.append(node);
    });
  const loaded = async (tag, attributes) => ((await element(tag, attributes)) ? `${tag} loaded` : "nothing");
  for (const secret of secrets) {
    await attempt(`image ${secret}`, () => loaded("img", { src: secret }));
    await attempt(`script ${secret}`, () => loaded("script", { src: secret }));
  }
  await attempt("module", async () => Object.keys(await import(secrets[0])).join());
  await attempt("style sheet", () => loaded("link", { rel: "stylesheet", href: secrets[0] }));
  await attempt("object", () => loaded("object", { data: secrets[0] }));
  const inside = (frame) => {
    const text = frame.contentDocument?.body?.innerText;
    return text && /run|pipeline|artifact/i.test(text) && !/not allowed|not one that/.test(text) ? text.slice(0, 200) : "nothing";
  };
  for (const secret of [...secrets, `${target}/`]) {
    await attempt(`frame ${secret}`, async () => inside(await element("iframe", { src: secret })));
  }

  // Forms, into frames of this page.
  const submit = async (name, enctype, action, fields, file) => {
    const frame = Object.assign(document.createElement("iframe"), { name: `frame-${name}` });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), { method: "post", enctype, action, target: frame.name });
    for (const [key, value] of fields) {
      form.append(Object.assign(document.createElement("input"), { name: key, value }));
    }
    if (file) {
      const input = Object.assign(document.createElement("input"), { type: "file", name: "uploadfile" });
      const transfer = new DataTransfer();
      transfer.items.add(new File([pipelineFile], "pipeline.yaml"));
      input.files = transfer.files;
      form.append(input);
    }
    document.body.append(form);
    const done = new Promise((resolve) => (frame.onload = () => resolve()));
    form.submit();
    await done;
    return inside(frame);
  };
  // `{"x":"` … `=` … `"}`: a plain-text form whose body is JSON.
  const plain = [[run.replace(/}$/, ',"description":"'), '"}']];
  await attempt("form urlencoded", () => submit("urlencoded", "application/x-www-form-urlencoded", runs, [["run", run]]));
  await attempt("form text/plain", () => submit("plain", "text/plain", runs, plain));
  await attempt("form multipart", () => submit("multipart", "multipart/form-data", `${upload}form`, [], true));
  return results;
};
