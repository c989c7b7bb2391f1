// Short ways to runs and tasks for tests.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { RunSchema, State, type Task, TaskKind, TaskSchema } from "../src/gen/flumina/pipelines/v1/pipelines_pb.js";
import { RunModel } from "../src/model/run.js";

export const BEGIN = 1_800_000_000_000;
export const at = (ms: number) => timestampFromMs(BEGIN + ms);

type TaskInit = Omit<MessageInitShape<typeof TaskSchema>, "$typeName">;

/** A task at a path; its parent is found by the path, its id is the path. */
export function task(path: string, init: TaskInit = {}): Task {
  const parts = path.split("/");
  const last = parts.pop() ?? "";
  const index = /\[(\d+)\]$/.exec(last)?.[1];
  return create(TaskSchema, {
    taskId: path,
    path,
    name: last.replace(/\[\d+\]$/, ""),
    parentTaskId: index ? [...parts, last.replace(/\[\d+\]$/, "")].join("/") : parts.join("/") || "root",
    kind: TaskKind.CONTAINER,
    state: State.SUCCEEDED,
    iterationIndex: BigInt(index ?? -1),
    ...init,
  } as TaskInit);
}

export const root = (): Task =>
  create(TaskSchema, { taskId: "root", name: "root", kind: TaskKind.ROOT, iterationIndex: -1n, state: State.RUNNING });

export function model(tasks: Task[], run: Omit<MessageInitShape<typeof RunSchema>, "$typeName"> = {}): RunModel {
  const made = new RunModel();
  made.update(create(RunSchema, { runId: "r", state: State.RUNNING, createdAt: at(0), ...run } as object), [root(), ...tasks]);
  return made;
}
