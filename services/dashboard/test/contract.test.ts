import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { createFileRegistry, type DescField, type DescMessage, type DescMethod, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

import { file_flumina_pipelines_v1_pipelines } from "../src/gen/flumina/pipelines/v1/pipelines_pb.js";
import { file_flumina_pipelines_v1_programs } from "../src/gen/flumina/pipelines/v1/programs_pb.js";
import { file_flumina_pipelines_v1_run_lists } from "../src/gen/flumina/pipelines/v1/run_lists_pb.js";

// The server may say more than this page knows; what the page knows must still mean the same.
test("the generated client agrees with the contracts of this tree", () => {
  const path = join(process.env["FLUMINA_ROOT"] ?? "../..", "libs/api/pipelines/src/gen/descriptor.bin");
  const current = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(path)));
  const compare = (message: DescMessage) => {
    const now = current.getMessage(message.typeName);
    assert.ok(now, message.typeName);
    for (const field of message.fields) {
      const same: DescField | undefined = now.fields.find((other) => other.number === field.number);
      assert.equal(`${same}`, `${field}`, message.typeName);
      assert.equal(same?.fieldKind, field.fieldKind, `${field}`);
      assert.equal(same?.scalar, field.scalar, `${field}`);
    }
    message.nestedMessages.forEach(compare);
  };
  const known = [file_flumina_pipelines_v1_pipelines, file_flumina_pipelines_v1_programs, file_flumina_pipelines_v1_run_lists];
  known.flatMap((file) => file.messages).forEach(compare);
  for (const service of known.flatMap((file) => file.services)) {
    const now = current.getService(service.typeName);
    assert.ok(now, service.typeName);
    for (const method of service.methods) {
      const same: DescMethod | undefined = now.methods.find((other) => other.name === method.name);
      assert.equal(same?.methodKind, method.methodKind, `${method}`);
      assert.equal(same?.input.typeName, method.input.typeName, `${method}`);
      assert.equal(same?.output.typeName, method.output.typeName, `${method}`);
    }
  }
});
