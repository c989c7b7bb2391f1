// The graph of a group: columns by dependencies, and few crossings.
import { State, type Task } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { type Counts, isIteration, label, type RunModel } from "./run.js";
import type { Look } from "./state.js";

export interface GraphNode {
  key: string;
  label: string;
  /** The tasks that the node stands for: one, or the same task of all iterations of a loop. */
  tasks: Task[];
  counts: Counts;
  look: Look;
  /** Whether there is a graph inside. */
  group: boolean;
  loop: boolean;
  x: number;
  y: number;
}

export interface GraphEdge {
  from: GraphNode;
  to: GraphNode;
}

export interface Graph {
  nodes: GraphNode[];
  edges: GraphEdge[];
  width: number;
  height: number;
}

export const NODE = { width: 208, height: 52, gapX: 56, gapY: 16 };
const MARGIN = 24;

/** The graph of the tasks inside a group; a loop is drawn once, with the states of all its iterations. */
export function graph(model: RunModel, groupId: string): Graph {
  const nodes = new Map<string, GraphNode>();
  const nodeOf = new Map<string, GraphNode>();
  for (const task of inside(model, groupId)) {
    // Iterations are told apart by the timeline, not here.
    const key = isIteration(task) ? task.name.replace(/\[\d+\]$/, "") : label(task);
    let node = nodes.get(key);
    if (!node) {
      node = { key, label: key, tasks: [], counts: {}, look: "waiting", group: false, loop: false, x: 0, y: 0 };
      nodes.set(key, node);
    }
    node.tasks.push(task);
    nodeOf.set(task.taskId, node);
  }
  const edges = new Map<string, GraphEdge>();
  for (const node of nodes.values()) {
    node.counts = model.counts(node.tasks);
    node.look = worst(node.counts);
    node.group = node.tasks.some((task) => model.children(task.taskId).length > 0);
    node.loop = node.tasks.some((task) => model.isLoop(task.taskId));
    for (const from of node.tasks.flatMap((task) => task.dependencies)) {
      const other = nodeOf.get(from);
      if (other && other !== node) edges.set(`${other.key}\n${node.key}`, { from: other, to: node });
    }
  }
  return place([...nodes.values()], [...edges.values()]);
}

/** The tasks of a group; of a loop those of all iterations, and likewise in a group that is in a loop. */
function inside(model: RunModel, groupId: string): Task[] {
  const group = model.tasks.get(groupId);
  if (!group) return [];
  const groups = peers(model, group);
  return groups.flatMap((task) => {
    const children = model.children(task.taskId);
    if (children.length === 0 || !isIteration(children[0] as Task)) return children;
    // An iteration that has not begun has nothing inside yet; of a loop over one program none ever has.
    const begun = children.flatMap((child) => model.children(child.taskId));
    return begun.length > 0 ? begun : children;
  });
}

/** The same group in all iterations of the loop around it. */
function peers(model: RunModel, group: Task): Task[] {
  const shape = withoutNumbers(group.path);
  if (shape === group.path) return [group];
  return [...model.tasks.values()].filter((task) => task.kind === group.kind && withoutNumbers(task.path) === shape);
}

const withoutNumbers = (path: string): string => path.replace(/\[\d+\]/g, "");

/** How a node of several tasks looks: as the one that needs attention most. */
function worst(counts: Counts): Look {
  const order: Look[] = ["bad", "running", "stopped", "waiting", "good", "cached", "skipped"];
  return order.find((kind) => counts[kind]) ?? "waiting";
}

function place(nodes: GraphNode[], edges: GraphEdge[]): Graph {
  const columns = layers(nodes, edges);
  order(columns, edges);
  const most = Math.max(1, ...columns.map((column) => column.length));
  const height = most * (NODE.height + NODE.gapY) - NODE.gapY;
  columns.forEach((column, x) => {
    const own = column.length * (NODE.height + NODE.gapY) - NODE.gapY;
    column.forEach((node, y) => {
      node.x = MARGIN + x * (NODE.width + NODE.gapX);
      node.y = MARGIN + (height - own) / 2 + y * (NODE.height + NODE.gapY);
    });
  });
  return {
    nodes,
    edges,
    width: 2 * MARGIN + columns.length * (NODE.width + NODE.gapX) - NODE.gapX,
    height: 2 * MARGIN + height,
  };
}

/** Every node one column after the last of those that it waits for. */
function layers(nodes: GraphNode[], edges: GraphEdge[]): GraphNode[][] {
  const before = new Map<GraphNode, GraphNode[]>(nodes.map((node) => [node, []]));
  for (const { from, to } of edges) before.get(to)?.push(from);
  const depth = new Map<GraphNode, number>();
  // Explicit, since a chain of thousands would be too deep for calls; a circle, which no valid graph has, ends.
  for (const start of nodes) {
    const stack = [start];
    const open = new Set<GraphNode>();
    while (stack.length > 0) {
      const node = stack[stack.length - 1] as GraphNode;
      const waiting = (before.get(node) ?? []).filter((other) => !depth.has(other) && !open.has(other));
      if (depth.has(node) || (open.has(node) && waiting.length === 0)) {
        depth.set(node, depth.get(node) ?? Math.max(-1, ...(before.get(node) ?? []).map((one) => depth.get(one) ?? -1)) + 1);
        stack.pop();
      } else {
        open.add(node);
        stack.push(...waiting);
      }
    }
  }
  const columns: GraphNode[][] = [];
  for (const node of nodes) (columns[depth.get(node) ?? 0] ??= []).push(node);
  return Array.from(columns, (column) => column ?? []);
}

/** Puts nodes near the middle of their neighbours, there and back a few times. */
function order(columns: GraphNode[][], edges: GraphEdge[]): void {
  const neighbours = new Map<GraphNode, { left: GraphNode[]; right: GraphNode[] }>();
  const of = (node: GraphNode) => {
    let found = neighbours.get(node);
    if (!found) neighbours.set(node, (found = { left: [], right: [] }));
    return found;
  };
  for (const { from, to } of edges) {
    of(to).left.push(from);
    of(from).right.push(to);
  }
  const sweep = (column: GraphNode[], side: "left" | "right") => {
    const rank = new Map(column.map((node, index) => {
      const others = of(node)[side];
      const middle = others.reduce((sum, other) => sum + other.y, 0) / others.length;
      return [node, others.length > 0 ? middle : index];
    }));
    column.sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
    number(column);
  };
  const number = (column: GraphNode[]) => {
    column.forEach((node, index) => {
      node.y = index - (column.length - 1) / 2;
    });
  };
  columns.forEach(number);
  for (let round = 0; round < 4; round += 1) {
    for (const column of columns.slice(1)) sweep(column, "left");
    for (const column of columns.slice(0, -1).reverse()) sweep(column, "right");
  }
}

/** The task of a node that a person most likely wants to see. */
export function mostTelling(node: GraphNode): Task {
  const order = [State.FAILED, State.RUNNING, State.PENDING];
  for (const state of order) {
    const found = node.tasks.find((task) => task.state === state);
    if (found) return found;
  }
  return node.tasks[0] as Task;
}
