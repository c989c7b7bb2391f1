// What a person looks for, as the server takes it.

/** What makes a text a condition instead of a part of a name: `metric.accuracy > 0.9`. */
const CONDITION = /^(?:state|name|pipeline|pipeline_id|experiment_id|schedule_id|archived|created_at|finished_at|(?:tag|param|metric)\.(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s=!<>:]+))\s*(?:!=|<=|>=|[=<>:])/;

/** The server's filter for what a person typed and the state that was chosen; runs that were put away are left out. */
export function filter(text: string, state: string): string {
  const wanted = text.trim();
  const parts: string[] = [];
  if (!/\barchived\b/.test(wanted)) parts.push("archived = false");
  if (state) parts.push(`state = ${state}`);
  if (CONDITION.test(wanted)) parts.push(wanted);
  else if (wanted) parts.push(`name : ${inQuotes(wanted)}`);
  return parts.join(" AND ");
}

/** What a condition can be about, as people read it, and whether a name belongs to it. */
export const SUBJECTS: readonly { id: string; text: string; named: boolean }[] = [
  { id: "pipeline", text: "Pipeline", named: false },
  { id: "tag", text: "Tag", named: true },
  { id: "param", text: "Parameter", named: true },
  { id: "metric", text: "Metric", named: true },
  { id: "state", text: "State", named: false },
];
export const OPERATORS = ["=", "!=", ">", ">=", "<", "<=", ":"] as const;

/** A text as the server reads it whatever is in it. */
const inQuotes = (text: string): string => `"${text.replace(/["\\]/g, "\\$&")}"`;

/** A name or a value as a filter takes it: bare where it can be. */
const quoted = (text: string): string => (/^[\w.+-]+$/.test(text) && !/^(?:and|or|not)$/i.test(text) ? text : inQuotes(text));

/** A condition, written as the server reads it. */
export function condition(subject: string, name: string, operator: string, value: string): string {
  const { named } = SUBJECTS.find(({ id }) => id === subject) ?? { named: false };
  const key = named ? `${subject}.${quoted(name.trim())}` : subject;
  return `${key} ${operator} ${quoted(value.trim())}`;
}

/** What a person typed and one condition more; a part of a name becomes a condition itself. */
export function withCondition(text: string, added: string): string {
  const wanted = text.trim();
  if (!wanted) return added;
  return `${CONDITION.test(wanted) ? wanted : `name : ${inQuotes(wanted)}`} AND ${added}`;
}
