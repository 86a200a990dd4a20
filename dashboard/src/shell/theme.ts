/** Dark first; light for a bright control room. Kept in the browser. */
const KEY = "haechi.theme";
export type Theme = "dark" | "light";

export function currentTheme(): Theme {
  try {
    return window.localStorage.getItem(KEY) === "light" ? "light" : "dark";
  } catch {
    return "dark";
  }
}

export function applyTheme(next: Theme = currentTheme()): void {
  document.documentElement.classList.toggle("dark", next === "dark");
  try {
    window.localStorage.setItem(KEY, next);
  } catch {
    // kept for this tab only
  }
}
