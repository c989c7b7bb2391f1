// Markdown as a tree that can be drawn without ever becoming HTML text: the parts that reports use.

export type Inline =
  | { kind: "text" | "code" | "strong" | "em" | "strike"; text: string }
  | { kind: "link"; text: string; href: string };

export type Block =
  | { kind: "heading"; level: number; inline: Inline[] }
  | { kind: "paragraph" | "quote"; inline: Inline[] }
  | { kind: "code"; text: string }
  | { kind: "list"; ordered: boolean; items: Inline[][] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "rule" };

const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const DIVIDER = /^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$/;

export function markdown(text: string): Block[] {
  const lines = text.split(/\r?\n/);
  const blocks: Block[] = [];
  let at = 0;
  const peek = () => lines[at];
  while (at < lines.length) {
    const line = lines[at] as string;
    const fence = /^\s*(```|~~~)/.exec(line)?.[1];
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (line.trim() === "") {
      at += 1;
    } else if (fence) {
      const from = (at += 1);
      while (at < lines.length && !lines[at]?.trim().startsWith(fence)) at += 1;
      blocks.push({ kind: "code", text: lines.slice(from, at).join("\n") });
      at += 1;
    } else if (heading) {
      blocks.push({ kind: "heading", level: heading[1]?.length ?? 1, inline: inline(heading[2] ?? "") });
      at += 1;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      blocks.push({ kind: "rule" });
      at += 1;
    } else if (line.includes("|") && DIVIDER.test(lines[at + 1] ?? "")) {
      const head = cells(line);
      at += 2;
      const rows: Inline[][][] = [];
      while (peek()?.includes("|")) rows.push(cells(lines[at++] as string));
      blocks.push({ kind: "table", head, rows });
    } else if (ITEM.test(line)) {
      const ordered = ITEM.exec(line)?.[1] !== undefined;
      const items: Inline[][] = [];
      for (let item = ITEM.exec(line); item; item = ITEM.exec(peek() ?? "")) {
        items.push(inline(item[2] ?? ""));
        at += 1;
      }
      blocks.push({ kind: "list", ordered, items });
    } else {
      const quote = line.startsWith(">");
      const from = at;
      at += 1;
      while (at < lines.length && continues(lines[at] as string, quote)) at += 1;
      const joined = lines.slice(from, at).map((part) => part.replace(/^>\s?/, "").trim()).join(" ");
      blocks.push({ kind: quote ? "quote" : "paragraph", inline: inline(joined) });
    }
  }
  return blocks;
}

function continues(line: string, quote: boolean): boolean {
  if (quote) return line.startsWith(">");
  return line.trim() !== "" && !/^(#{1,6}\s|\s*(```|~~~)|>)/.test(line) && !ITEM.test(line);
}

const cells = (line: string): Inline[][] =>
  line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => inline(cell.trim()));

const INLINE =
  /`([^`]+)`|\*\*([^*]+)\*\*|__([^_]+)__|\*([^*\s][^*]*)\*|\b_([^_]+)_\b|~~([^~]+)~~|!?\[([^\]]*)\]\(([^)\s]+)[^)]*\)/g;

export function inline(text: string): Inline[] {
  const found: Inline[] = [];
  let from = 0;
  const plain = (to: number) => {
    if (to > from) found.push({ kind: "text", text: text.slice(from, to) });
  };
  for (const match of text.matchAll(INLINE)) {
    plain(match.index);
    from = match.index + match[0].length;
    const [, code, strong, strong2, em, em2, strike, name, href] = match;
    if (code !== undefined) found.push({ kind: "code", text: code });
    else if (strong ?? strong2) found.push({ kind: "strong", text: (strong ?? strong2) as string });
    else if (em ?? em2) found.push({ kind: "em", text: (em ?? em2) as string });
    else if (strike) found.push({ kind: "strike", text: strike });
    else if (/^https?:\/\//.test(href ?? "")) found.push({ kind: "link", text: name || (href as string), href: href as string });
    else found.push({ kind: "text", text: name ?? "" });
  }
  plain(text.length);
  return found;
}
