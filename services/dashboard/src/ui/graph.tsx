// The graph of a pipeline, or of a group in it.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { type Graph, graph, type GraphNode, mostTelling, NODE } from "../model/graph.js";
import { label, type RunModel } from "../model/run.js";
import { CountsView, countsText, Empty, StateIcon } from "./common.js";

interface Props {
  model: RunModel;
  version: number;
  /** The group that is shown; empty for the pipeline. */
  group: string;
  selected: string;
  onGroup: (taskId: string) => void;
  onSelect: (taskId: string) => void;
}

export function GraphView({ model, version, group, selected, onGroup, onSelect }: Props) {
  const groupId = model.tasks.has(group) ? group : (model.root?.taskId ?? "");
  const drawn = useMemo(() => graph(model, groupId), [model, version, groupId]);
  const [zoom, setZoom] = useState(1);
  const box = useRef<HTMLDivElement>(null);

  // A graph that is a little too wide is made to fit; a large one is scrolled.
  useEffect(() => {
    const room = box.current?.clientWidth ?? drawn.width;
    setZoom(Math.min(1, Math.max(0.75, room / drawn.width)));
  }, [groupId, drawn.width]);

  return (
    <div class="graph">
      <div class="toolbar">
        <Path model={model} groupId={groupId} onGroup={onGroup} />
        <span class="zoom">
          <button type="button" class="quiet" aria-label="Zoom out" onClick={() => setZoom(Math.max(0.3, zoom / 1.25))}>
            −
          </button>
          <button type="button" class="quiet" aria-label="Zoom in" onClick={() => setZoom(Math.min(2, zoom * 1.25))}>
            +
          </button>
        </span>
      </div>
      <div class="canvas" ref={box}>
        {drawn.nodes.length === 0 ? (
          <Empty>There are no tasks here yet.</Empty>
        ) : (
          <div class="sized" style={{ width: `${drawn.width * zoom}px`, height: `${drawn.height * zoom}px` }}>
            <div
              class="scaled"
              style={{ width: `${drawn.width}px`, height: `${drawn.height}px`, transform: `scale(${zoom})` }}
            >
              <Edges drawn={drawn} />
              <Nodes drawn={drawn} selected={selected} onGroup={onGroup} onSelect={onSelect} />
            </div>
          </div>
        )}
      </div>
    </div>
  );
}

function Path({ model, groupId, onGroup }: { model: RunModel; groupId: string; onGroup: (id: string) => void }) {
  const groups = model.ancestry(groupId);
  return (
    <nav class="path" aria-label="Groups around this graph">
      <button type="button" class="link" disabled={groups.length === 0} onClick={() => onGroup("")}>
        Pipeline
      </button>
      {groups.map((task, index) => (
        <span key={task.taskId}>
          <span aria-hidden="true"> / </span>
          <button
            type="button"
            class="link"
            disabled={index === groups.length - 1}
            onClick={() => onGroup(task.taskId)}
          >
            {label(task)}
          </button>
        </span>
      ))}
    </nav>
  );
}

function Edges({ drawn }: { drawn: Graph }) {
  return (
    <svg class="edges" width={drawn.width} height={drawn.height} aria-hidden="true">
      {drawn.edges.map(({ from, to }) => {
        const [x1, y1] = [from.x + NODE.width, from.y + NODE.height / 2];
        const [x2, y2] = [to.x, to.y + NODE.height / 2];
        const bend = Math.max(28, (x2 - x1) / 2);
        return (
          <path
            key={`${from.key}\n${to.key}`}
            class={to.look === "skipped" ? "dim" : ""}
            d={`M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 5} ${y2}`}
          />
        );
      })}
      {drawn.nodes
        .filter((node) => drawn.edges.some((edge) => edge.to === node))
        .map((node) => (
          <path key={node.key} class="tip" d={`M${node.x - 7} ${node.y + NODE.height / 2 - 4}l6 4l-6 4z`} />
        ))}
    </svg>
  );
}

interface NodesProps {
  drawn: Graph;
  selected: string;
  onGroup: (taskId: string) => void;
  onSelect: (taskId: string) => void;
}

function Nodes({ drawn, selected, onGroup, onSelect }: NodesProps) {
  const list = useRef<HTMLUListElement>(null);
  // Arrows go to the node that is nearest in that direction.
  const key = (event: JSX.TargetedKeyboardEvent<HTMLElement>) => {
    const directions: Record<string, [number, number]> = {
      ArrowRight: [1, 0],
      ArrowLeft: [-1, 0],
      ArrowDown: [0, 1],
      ArrowUp: [0, -1],
    };
    const direction = directions[event.key];
    const focused = (event.target as HTMLElement).closest<HTMLElement>("[data-key]");
    const from = drawn.nodes.find((node) => node.key === focused?.dataset["key"]);
    if (!direction || !from) return;
    event.preventDefault();
    const next = nearest(drawn.nodes, from, direction);
    const index = next ? drawn.nodes.indexOf(next) : -1;
    list.current?.querySelectorAll<HTMLElement>(".node > .open")[index]?.focus();
  };
  return (
    <ul ref={list} class="nodes" onKeyDown={key} aria-label="Tasks of this graph">
      {drawn.nodes.map((node) => {
        const task = mostTelling(node);
        const many = node.tasks.length > 1;
        return (
          <li
            key={node.key}
            data-key={node.key}
            class={`node ${node.look} ${node.tasks.some((one) => one.taskId === selected) ? "selected" : ""}`}
            style={{ left: `${node.x}px`, top: `${node.y}px`, width: `${NODE.width}px`, height: `${NODE.height}px` }}
          >
            <button type="button" class="open" onClick={() => onSelect(task.taskId)}>
              <StateIcon state={task.state} />
              <span class="text">
                <span class="title">{node.label}</span>
                <span class="sub">{many ? countsText(node.counts) : subtitle(node)}</span>
              </span>
            </button>
            {node.group ? (
              <button type="button" class="enter" onClick={() => onGroup(task.taskId)} aria-label={`Show inside ${node.label}`}>
                {node.loop ? "↻" : "⤢"}
              </button>
            ) : null}
            {many ? <CountsView counts={node.counts} /> : null}
          </li>
        );
      })}
    </ul>
  );
}

function subtitle(node: GraphNode): string {
  const task = node.tasks[0];
  if (node.loop) return "loop";
  if (node.group) return "group";
  return task?.image || task?.component.replace(/^comp-/, "") || "";
}

function nearest(nodes: GraphNode[], from: GraphNode, [dx, dy]: [number, number]): GraphNode | undefined {
  let best: GraphNode | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const node of nodes) {
    const along = (node.x - from.x) * dx + (node.y - from.y) * dy;
    const across = Math.abs((node.x - from.x) * dy + (node.y - from.y) * dx);
    if (node === from || along <= 0) continue;
    const distance = along + 2 * across;
    if (distance < least) [best, least] = [node, distance];
  }
  return best;
}
