// The text of a log as lines, whatever the pieces in which it comes.

/** Lines that are kept; older ones are dropped and counted. */
export const MOST_LINES = 200_000;
/** Characters of a line that are kept. */
const LONGEST = 20_000;

// Colours, cursor movements and titles that programs write for terminals.
const TERMINAL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

export class LogText {
  readonly lines: string[] = [];
  /** Lines that were dropped at the beginning. */
  dropped = 0;
  private decoder = new TextDecoder();
  /** The end of the last piece, which has no line end yet. */
  private rest = "";
  private hasRest = false;

  /** Takes in bytes that follow the ones before. */
  push(data: Uint8Array): void {
    this.add(this.decoder.decode(data, { stream: true }));
  }

  /** A line of the page's own, such as the border between two attempts. */
  mark(text: string): void {
    this.add(`${this.decoder.decode()}${this.rest ? "\n" : ""}${text}\n`);
    this.decoder = new TextDecoder();
  }

  private add(text: string): void {
    if (!text) return;
    // The unfinished line is shown too, and replaced when more of it comes.
    if (this.hasRest) this.lines.pop();
    const parts = (this.rest + text).split("\n");
    this.rest = (parts.pop() ?? "").slice(-LONGEST);
    for (const part of parts) this.lines.push(clean(part));
    this.hasRest = this.rest !== "";
    if (this.hasRest) this.lines.push(clean(this.rest));
    const excess = this.lines.length - MOST_LINES;
    if (excess > 0) {
      this.lines.splice(0, excess);
      this.dropped += excess;
    }
  }
}

/** A line as a terminal would leave it: without control sequences, and after `\r` what came last. */
export function clean(line: string): string {
  let text = line.replace(TERMINAL, "");
  if (text.endsWith("\r")) text = text.slice(0, -1);
  const back = text.lastIndexOf("\r");
  if (back >= 0) text = text.slice(back + 1);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** The numbers of the lines that contain the text, whatever its case. */
export function search(lines: readonly string[], text: string): number[] {
  const wanted = text.toLowerCase();
  if (!wanted) return [];
  const found: number[] = [];
  lines.forEach((line, index) => {
    if (line.toLowerCase().includes(wanted)) found.push(index);
  });
  return found;
}

/** A line cut at the places where the text is; every second piece is the text. */
export function pieces(line: string, text: string): string[] {
  if (!text) return [line];
  const [lower, wanted] = [line.toLowerCase(), text.toLowerCase()];
  const found: string[] = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    found.push(line.slice(from, at), line.slice(at, at + wanted.length));
    from = at + wanted.length;
  }
  found.push(line.slice(from));
  return found;
}
