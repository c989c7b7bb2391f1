// A form that writes a condition for those who do not know how it is written.
import { useState } from "preact/hooks";

import { condition, OPERATORS, SUBJECTS } from "../api/filter.js";

const OPERATOR_NAMES: Record<string, string> = { "=": "is", "!=": "is not", ":": "contains" };

export function ConditionForm({ onAdd }: { onAdd: (text: string) => void }) {
  const [open, setOpen] = useState(false);
  const [subject, setSubject] = useState("metric");
  const [name, setName] = useState("");
  const [operator, setOperator] = useState<string>("=");
  const [value, setValue] = useState("");
  const named = SUBJECTS.find(({ id }) => id === subject)?.named ?? false;
  if (!open) {
    return (
      <button type="button" class="quiet" aria-expanded={false} onClick={() => setOpen(true)}>
        + Condition
      </button>
    );
  }
  const submit = (event: Event) => {
    event.preventDefault();
    onAdd(condition(subject, name, operator, value));
    setOpen(false);
    setValue("");
  };
  return (
    <form class="condition" aria-label="Add a condition" onSubmit={submit} onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <select aria-label="About" value={subject} autofocus onChange={(event) => setSubject(event.currentTarget.value)}>
        {SUBJECTS.map(({ id, text }) => (
          <option key={id} value={id}>
            {text}
          </option>
        ))}
      </select>
      {named ? (
        <input type="text" aria-label="Name" placeholder="name" required value={name} onInput={(event) => setName(event.currentTarget.value)} />
      ) : null}
      <select aria-label="Comparison" value={operator} onChange={(event) => setOperator(event.currentTarget.value)}>
        {OPERATORS.map((one) => (
          <option key={one} value={one}>
            {OPERATOR_NAMES[one] ?? one}
          </option>
        ))}
      </select>
      <input type="text" aria-label="Value" placeholder="value" required value={value} onInput={(event) => setValue(event.currentTarget.value)} />
      <button type="submit">Add</button>
      <button type="button" class="quiet small" aria-label="Close the form" onClick={() => setOpen(false)}>
        ×
      </button>
    </form>
  );
}
