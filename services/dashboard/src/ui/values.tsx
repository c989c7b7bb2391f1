// Parameters and metadata: names with values of any JSON type.
import type { JsonObject, JsonValue as Json } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";

import { number } from "../model/format.js";
import { Copy } from "./common.js";

/** Characters of a value that are shown before a person asks for all. */
const SHORT = 240;

/** A table of names and values; nothing for none. */
export function Values({ values, label }: { values: JsonObject | undefined; label: string }) {
  const entries = Object.entries(values ?? {});
  if (entries.length === 0) return null;
  return (
    <table class="values" aria-label={label}>
      <tbody>
        {entries
          .sort(([a], [b]) => a.localeCompare(b))
          .map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>
                <JsonValue value={value} />
              </td>
            </tr>
          ))}
      </tbody>
    </table>
  );
}

export function JsonValue({ value }: { value: Json }) {
  const [whole, setWhole] = useState(false);
  if (value === null) return <span class="value null">null</span>;
  if (typeof value === "number") return <span class="value number">{number(value)}</span>;
  if (typeof value === "boolean") return <span class="value boolean">{String(value)}</span>;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, compact(value) ? 0 : 2);
  const cut = text.length > SHORT && !whole;
  return (
    <span class={`value ${typeof value === "string" ? "string" : "json"}`}>
      <span class="text">{text === "" ? '""' : cut ? `${text.slice(0, SHORT)}…` : text}</span>
      {text.length > SHORT ? (
        <span class="actions">
          <button type="button" class="link" onClick={() => setWhole(!whole)}>
            {whole ? "Less" : "All"}
          </button>
          <Copy text={text} label="Copy the value" />
        </span>
      ) : null}
    </span>
  );
}

const compact = (value: Json): boolean => JSON.stringify(value).length < 60;
