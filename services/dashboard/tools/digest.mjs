// A key of everything that a build is made from; `cargo xtask tidy` computes the same and compares.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FILES = ["index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];
const FOLDERS = ["public", "src"];

export function sourcesKey(root) {
  const inside = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)),
  );
  // By bytes, as the other side sorts.
  const names = [...FILES, ...inside].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return fnv(names.flatMap((name) => [Buffer.from(name), readFileSync(join(root, name))]));
}

/** FNV-1a, 64 bits, over parts that their lengths keep apart; in two halves, since numbers here have 53 bits. */
function fnv(parts) {
  let [high, low] = [0xcbf29ce4, 0x84222325];
  const eat = (byte) => {
    low = (low ^ byte) >>> 0;
    // × 0x100000001b3
    const product = low * 0x1b3;
    const carry = Math.floor(product / 0x100000000);
    high = (Math.imul(high, 0x1b3) + carry + (low << 8)) >>> 0;
    low = product >>> 0;
  };
  for (const part of parts) {
    part.forEach(eat);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(part.length));
    length.forEach(eat);
  }
  return high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");
}
