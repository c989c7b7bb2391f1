// A run and its tasks as they are known now, and the order in which a tree shows them.
import { type Run, type Task, TaskKind } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { hasEnded, look, type Look } from "./state.js";

/** Tasks of a run by state, by how they look. */
export type Counts = Partial<Record<Look, number>>;

/** A line of the tree. */
export interface Row {
  task: Task;
  /** From 1, as assistive programs count. */
  level: number;
  /** The place among its siblings, from 1, and how many they are. */
  position: number;
  siblings: number;
  hasChildren: boolean;
  open: boolean;
  /** For a loop: the states of its iterations. */
  iterations?: Counts;
}

/** Which groups a person opened or closed; the others are as `isOpenByItself` says. */
export type Toggles = ReadonlyMap<string, boolean>;

/** A group with more tasks than this begins closed. */
const MANY = 200;

export class RunModel {
  run: Run | undefined;
  readonly tasks = new Map<string, Task>();
  /** Grows with every change, so that views know what is new. */
  version = 0;
  private readonly inner = new Map<string, string[]>();
  private rootId = "";

  /** Takes in what a watch said. */
  update(run: Run | undefined, tasks: readonly Task[]): void {
    if (run) this.run = run;
    for (const task of tasks) {
      if (!this.tasks.has(task.taskId)) this.place(task);
      this.tasks.set(task.taskId, task);
    }
    this.version += 1;
  }

  private place(task: Task): void {
    if (task.kind === TaskKind.ROOT) this.rootId = task.taskId;
    const parent = task.kind === TaskKind.ROOT ? "" : task.parentTaskId;
    const siblings = this.inner.get(parent);
    if (siblings) siblings.push(task.taskId);
    else this.inner.set(parent, [task.taskId]);
  }

  get root(): Task | undefined {
    return this.tasks.get(this.rootId);
  }

  get ended(): boolean {
    return this.run !== undefined && hasEnded(this.run.state);
  }

  /** The tasks of a group; iterations by their number, others in the order in which they came to be. */
  children(taskId: string): Task[] {
    const found = (this.inner.get(taskId) ?? []).flatMap((id) => this.tasks.get(id) ?? []);
    if (found.length > 1 && isIteration(found[0] as Task)) {
      found.sort((a, b) => Number(a.iterationIndex - b.iterationIndex));
    }
    return found;
  }

  /** Whether the task is a loop whose iterations have begun. */
  isLoop(taskId: string): boolean {
    const first = this.tasks.get(this.inner.get(taskId)?.[0] ?? "");
    return first !== undefined && isIteration(first);
  }

  /** The task, the groups around it and so on; the root is left out. */
  ancestry(taskId: string): Task[] {
    const found: Task[] = [];
    for (let task = this.tasks.get(taskId); task && task.taskId !== this.rootId; ) {
      found.unshift(task);
      task = this.tasks.get(task.parentTaskId);
    }
    return found;
  }

  /** The tasks that have none inside: what a person counts. */
  leaves(): Task[] {
    return [...this.tasks.values()].filter((task) => task.taskId !== this.rootId && !this.inner.has(task.taskId));
  }

  counts(tasks: Iterable<Task>): Counts {
    const counts: Counts = {};
    for (const task of tasks) {
      const kind = look(task.state);
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
    return counts;
  }

  /** Groups are open, loops and their iterations folded; what failed is open down to the task that failed first. */
  isOpenByItself(task: Task, failedPath: ReadonlySet<string>): boolean {
    if (failedPath.has(task.taskId)) return true;
    const inside = this.inner.get(task.taskId)?.length ?? 0;
    return !isIteration(task) && !this.isLoop(task.taskId) && inside <= MANY;
  }

  /** The lines of the tree; with `wanted`, only tasks whose path contains it, and the groups around them. */
  rows(toggles: Toggles, wanted = ""): Row[] {
    const rows: Row[] = [];
    const failed = this.run?.failedTaskId ?? "";
    const failedPath = new Set(this.ancestry(failed).map((task) => task.taskId));
    failedPath.delete(failed);
    const kept = wanted ? this.matches(wanted) : undefined;
    const visit = (parent: string, level: number): void => {
      const children = this.children(parent).filter((task) => !kept || kept.has(task.taskId));
      children.forEach((task, index) => {
        const hasChildren = this.inner.has(task.taskId);
        const open =
          hasChildren && (kept !== undefined || (toggles.get(task.taskId) ?? this.isOpenByItself(task, failedPath)));
        const row: Row = {
          task,
          level,
          position: index + 1,
          siblings: children.length,
          hasChildren,
          open,
        };
        if (this.isLoop(task.taskId)) row.iterations = this.counts(this.children(task.taskId));
        rows.push(row);
        if (open) visit(task.taskId, level + 1);
      });
    };
    if (this.rootId) visit(this.rootId, 1);
    return rows;
  }

  /** The tasks whose path contains the text, whatever its case, with the groups around them. */
  private matches(text: string): Set<string> {
    const wanted = text.toLowerCase();
    const kept = new Set<string>();
    for (const task of this.tasks.values()) {
      if (!task.path.toLowerCase().includes(wanted)) continue;
      for (const { taskId } of this.ancestry(task.taskId)) kept.add(taskId);
    }
    return kept;
  }
}

/** Whether the task is one turn of a loop: its path ends in its number. */
export function isIteration(task: Task): boolean {
  return task.iterationIndex >= 0n && task.path.endsWith(`[${task.iterationIndex}]`);
}

/** The name that a line shows: the number for an iteration. */
export function label(task: Task): string {
  return isIteration(task) ? `${task.name.replace(/\[\d+\]$/, "")}[${task.iterationIndex}]` : task.name;
}
