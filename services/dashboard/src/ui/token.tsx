// Asks for the server's token when it wants one.
import { useEffect, useRef, useState } from "preact/hooks";

import { setToken, whenUnauthenticated } from "../api/client.js";

export function TokenDialog() {
  const [wanted, setWanted] = useState(false);
  const [value, setValue] = useState("");
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => whenUnauthenticated(() => setWanted(true)), []);
  useEffect(() => {
    if (wanted) dialog.current?.showModal();
  }, [wanted]);
  const submit = (event: Event) => {
    event.preventDefault();
    setToken(value.trim());
    // Everything begins anew with the token; the place in the URL stays.
    location.reload();
  };
  if (!wanted) return null;
  return (
    <dialog ref={dialog} aria-labelledby="token-title" onCancel={(event) => event.preventDefault()}>
      <form onSubmit={submit}>
        <h2 id="token-title">This server wants a token</h2>
        <p class="muted">It was given to the server as FLUMINA_TOKEN or in its configuration. This tab forgets it when it is closed.</p>
        <input
          type="password"
          autocomplete="off"
          aria-label="Token"
          autofocus
          required
          value={value}
          onInput={(event) => setValue(event.currentTarget.value)}
        />
        <button type="submit" class="primary">
          Continue
        </button>
      </form>
    </dialog>
  );
}
