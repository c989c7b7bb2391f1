// Numbers, times and sizes for people.
import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** Milliseconds since 1970, with a fraction; undefined where there is no time. */
export function millis(time: Timestamp | undefined): number | undefined {
  return time && Number(time.seconds) * 1000 + time.nanos / 1e6;
}

/** The time as filters take it, with everything that is known of it. */
export function instant(time: Timestamp): string {
  const seconds = new Date(Number(time.seconds) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(time.nanos).padStart(9, "0")}Z`;
}

/** `340 ms`, `2.4 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`. */
export function duration(ms: number): string {
  if (ms < 0) return duration(0);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(ms < 9_950 ? 1 : 0)} s`;
  const parts: [number, string][] = [[86_400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  let seconds = Math.round(ms / 1000);
  const shown: string[] = [];
  for (const [size, unit] of parts) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) shown.push(`${count} ${unit}`);
    // Two neighbouring units are enough.
    if (shown.length === 2 || (shown.length === 1 && count === 0)) break;
  }
  return shown.join(" ");
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  let value = count;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    value /= 1024;
    if (value < 1024 || unit === "TiB") return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
  }
  return "";
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const clock = (ms: number): string => CLOCK.format(ms);
export const fullTime = (ms: number): string => FULL.format(ms);

/** Today by the clock, other days with their date. */
export function when(ms: number, now: number): string {
  return new Date(ms).toDateString() === new Date(now).toDateString() ? CLOCK.format(ms) : DAY.format(ms);
}

/** Up to five significant digits, without an exponent where people would not write one. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en-US").replaceAll(",", "\u202f");
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}
