// Writes the TypeScript client into src/gen from the committed descriptors of the contracts; needs no protoc.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema, CodeGeneratorResponseSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const here = join(dirname(fileURLToPath(import.meta.url)), "..");
const descriptor = join(here, "../../libs/api/pipelines/src/gen/descriptor.bin");
const files = fromBinary(FileDescriptorSetSchema, readFileSync(descriptor)).file;

const request = create(CodeGeneratorRequestSchema, {
  protoFile: files,
  // The runtime brings google.protobuf itself.
  fileToGenerate: files.map((file) => file.name).filter((name) => !name.startsWith("google/protobuf/")),
  parameter: "target=ts",
});
const plugin = spawnSync(join(here, "node_modules/.bin/protoc-gen-es"), {
  input: toBinary(CodeGeneratorRequestSchema, request),
  maxBuffer: 64 << 20,
});
if (plugin.status !== 0) throw new Error(String(plugin.stderr || plugin.error));
const response = fromBinary(CodeGeneratorResponseSchema, new Uint8Array(plugin.stdout));
if (response.error) throw new Error(response.error);

const out = join(here, "src/gen");
rmSync(out, { recursive: true, force: true });
for (const file of response.file) {
  const path = join(out, file.name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, file.content);
}
