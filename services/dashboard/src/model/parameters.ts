// Parameters of a run as a person edits them: text in fields, values to the server.
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

export type Kind = "text" | "number" | "true or false" | "JSON";

export interface Field {
  name: string;
  kind: Kind;
  /** The value that the run had, as it is written in the field. */
  text: string;
}

function kindOf(value: JsonValue): Kind {
  if (typeof value === "string") return "text";
  if (typeof value === "number") return "number";
  return typeof value === "boolean" ? "true or false" : "JSON";
}

/** The fields of a form, by name. */
export function fields(parameters: JsonObject): Field[] {
  return Object.entries(parameters)
    .map(([name, value]) => ({ name, kind: kindOf(value), text: typeof value === "string" ? value : JSON.stringify(value) }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** The values that differ from the run's, and why what stands in a field is no value. */
export function changes(known: readonly Field[], texts: Record<string, string>): { values: JsonObject; wrong: Record<string, string> } {
  const values: JsonObject = {};
  const wrong: Record<string, string> = {};
  for (const field of known) {
    const text = texts[field.name] ?? field.text;
    if (text === field.text) continue;
    const found = field.kind === "text" ? text : parsed(text);
    const kind = found === undefined ? undefined : kindOf(found);
    if (found === undefined || kind !== field.kind) wrong[field.name] = WANTED[field.kind];
    else values[field.name] = found;
  }
  return { values, wrong };
}

const WANTED: Record<Kind, string> = {
  text: "",
  number: "A number is wanted, such as 0.5.",
  "true or false": "true or false is wanted.",
  JSON: 'JSON is wanted, such as [1, 2] or {"a": 1}.',
};

function parsed(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}
