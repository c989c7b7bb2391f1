// What a person looks for, as the server takes it.

/** What makes a text a condition instead of a part of a name: `metric.accuracy > 0.9`. */
const CONDITION = /^(?:state|name|pipeline|pipeline_id|experiment_id|schedule_id|archived|created_at|finished_at|(?:tag|param|metric)\.\S+)\s*(?:!=|<=|>=|[=<>:])/;

/** The server's filter for what a person typed and the state that was chosen; runs that were put away are left out. */
export function filter(text: string, state: string): string {
  const wanted = text.trim();
  const parts: string[] = [];
  if (!/\barchived\b/.test(wanted)) parts.push("archived = false");
  if (state) parts.push(`state = ${state}`);
  if (CONDITION.test(wanted)) parts.push(wanted);
  else if (wanted) parts.push(`name : ${JSON.stringify(wanted)}`);
  return parts.join(" AND ");
}
