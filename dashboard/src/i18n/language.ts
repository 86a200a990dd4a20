/** Which language is shown; kept in the browser so that the sign-in page speaks it too. */
import type { Language } from "./catalogue";

const KEY = "haechi.language";

function stored(): Language | null {
  try {
    const value = window.localStorage.getItem(KEY);
    return value === "ko" || value === "en" ? value : null;
  } catch {
    return null; // storage may be forbidden: Korean then
  }
}

let language: Language = stored() ?? "ko";
const watchers = new Set<() => void>();

export function currentLanguage(): Language {
  return language;
}

export function hasChosenLanguage(): boolean {
  return stored() !== null;
}

export function setLanguage(next: Language): void {
  language = next;
  try {
    window.localStorage.setItem(KEY, next);
  } catch {
    // kept for this tab only
  }
  document.documentElement.lang = next;
  for (const run of watchers) run();
}

export function watchLanguage(run: () => void): () => void {
  watchers.add(run);
  return () => watchers.delete(run);
}
