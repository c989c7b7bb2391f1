// Light, dark, or as the system says.
import { useState } from "preact/hooks";

type Theme = "system" | "light" | "dark";
const KEY = "flumina.theme";
const NEXT: Record<Theme, Theme> = { system: "dark", dark: "light", light: "system" };
const NAMES: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

function stored(): Theme {
  const found = localStorage.getItem(KEY);
  return found === "light" || found === "dark" ? found : "system";
}

function apply(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

// Before anything is drawn.
apply(stored());

export function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(stored);
  const choose = (chosen: Theme) => {
    setTheme(chosen);
    apply(chosen);
    if (chosen === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  };
  const text = `Colours: ${NAMES[theme]}`;
  return (
    <button type="button" class="quiet theme" title={text} aria-label={text} onClick={() => choose(NEXT[theme])}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="5.5" />
        <path d="M8 2.5a5.5 5.5 0 0 1 0 11z" />
      </svg>
    </button>
  );
}
