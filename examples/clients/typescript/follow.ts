// Creates a run and prints the states of its tasks until it has ended, over gRPC:
//
//     node dist/follow.js ../pipeline.json [--server http://127.0.0.1:8080] [--text TEXT]
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import type { JsonObject } from "@bufbuild/protobuf";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { RunService as FluminaRunService, State } from "./gen/flumina/pipelines/v1/pipelines_pb.js";
import { RunService as KfpRunService } from "./gen/kubeflow/pipelines/backend/api/v2beta1/run_pb.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string", default: "http://127.0.0.1:8080" },
    text: { type: "string", default: "one two three" },
  },
});

const token = process.env.FLUMINA_TOKEN;
const authorize: Interceptor = (next) => (request) => {
  if (token) request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const transport = createGrpcTransport({ baseUrl: values.server, interceptors: [authorize] });

const spec = JSON.parse(readFileSync(positionals[0], "utf8")) as JsonObject;
const created = await createClient(KfpRunService, transport).createRun({
  run: {
    displayName: "from TypeScript",
    pipelineSource: { case: "pipelineSpec", value: spec },
    runtimeConfig: { parameters: { text: { kind: { case: "stringValue", value: values.text } } } },
  },
});
console.log(`run ${created.runId}`);

let state = State.STATE_UNSPECIFIED;
for await (const update of createClient(FluminaRunService, transport).watchRun({ runId: created.runId })) {
  for (const task of update.tasks) {
    if (task.path) console.log(`${task.path} ${State[task.state]}`);
  }
  state = update.run?.state ?? state;
}
console.log(`run ${State[state]}`);
process.exitCode = state === State.SUCCEEDED ? 0 : 1;
