// What differs between two texts, line by line.

export type Kind = "same" | "removed" | "added";

export interface Line {
  kind: Kind;
  text: string;
  /** Its number in the first and in the second text, from 1; 0 where it is not. */
  numbers: [number, number];
}

/** Equal lines that are not shown. */
export interface Fold {
  kind: "fold";
  count: number;
}

/** Pairs of lines that are compared with each other; texts that differ in more are shown as replaced. */
const MOST_PAIRS = 4_000_000;

/** The lines of both texts, as few as possible of them removed and added. */
export function diff(before: string, after: string): Line[] {
  const [a, b] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const kept = common(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const found: Line[] = [];
  let [i, j] = [0, 0];
  const same = () => found.push({ kind: "same", text: a[i] as string, numbers: [++i, ++j] });
  const until = (x: number, y: number) => {
    while (i < x) found.push({ kind: "removed", text: a[i] as string, numbers: [++i, 0] });
    while (j < y) found.push({ kind: "added", text: b[j] as string, numbers: [0, ++j] });
  };
  while (i < start) same();
  for (const [x, y] of kept) {
    until(start + x, start + y);
    same();
  }
  until(a.length - end, b.length - end);
  while (i < a.length) same();
  return found;
}

/** The longest common lines in their order, as pairs of places. */
function common(a: string[], b: string[]): [number, number][] {
  const [n, m] = [a.length, b.length];
  if (n * m > MOST_PAIRS) return [];
  // At (i, j): how many lines the rests have in common.
  const width = m + 1;
  const lengths = new Uint16Array((n + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const found: [number, number][] = [];
  for (let [i, j] = [0, 0]; i < n && j < m; ) {
    if (a[i] === b[j]) found.push([i++, j++]);
    else if (at(i + 1, j) >= at(i, j + 1)) i += 1;
    else j += 1;
  }
  return found;
}

/** Lines around each difference that show where it is. */
const AROUND = 3;

/** The differences with some lines around them; the other equal lines are folded. */
export function folded(lines: readonly Line[]): (Line | Fold)[] {
  const near = new Set<number>();
  lines.forEach((line, index) => {
    if (line.kind === "same") return;
    for (let at = index - AROUND; at <= index + AROUND; at += 1) near.add(at);
  });
  const found: (Line | Fold)[] = [];
  lines.forEach((line, index) => {
    // One line alone takes no more room than the note that it is not shown.
    if (near.has(index) || (near.has(index - 1) && near.has(index + 1))) found.push(line);
    else {
      const last = found.at(-1);
      if (last?.kind === "fold") last.count += 1;
      else found.push({ kind: "fold", count: 1 });
    }
  });
  return found;
}

/** Where a line differs from the one that takes its place: the text before, within and after. */
export function middle(text: string, other: string): [string, string, string] {
  let start = 0;
  while (start < text.length && start < other.length && text[start] === other[start]) start += 1;
  let end = 0;
  while (end < Math.min(text.length, other.length) - start && text.at(-1 - end) === other.at(-1 - end)) end += 1;
  return [text.slice(0, start), text.slice(start, text.length - end), text.slice(text.length - end)];
}

/** For each line, the one that takes its place: of a block of removed lines and the added ones after it, one by one. */
export function counterparts(lines: readonly (Line | Fold)[]): Map<Line, Line> {
  const found = new Map<Line, Line>();
  for (let at = 0; at < lines.length; ) {
    const block = (kind: Kind) => {
      const from = at;
      while (at < lines.length && lines[at]?.kind === kind) at += 1;
      return lines.slice(from, at) as Line[];
    };
    const [removed, added] = [block("removed"), block("added")];
    if (removed.length === added.length) {
      removed.forEach((line, index) => {
        const other = added[index] as Line;
        found.set(line, other).set(other, line);
      });
    }
    if (removed.length + added.length === 0) at += 1;
  }
  return found;
}
