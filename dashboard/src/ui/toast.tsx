/** Short notices at the corner; a screen reader hears them. Failures stay until dismissed. */
import { useSyncExternalStore } from "react";
import { problemOf } from "@/api/problem";
import { useT } from "@/i18n/react";
import { cx } from "./cx";

type Toast = { id: number; tone: "ok" | "bad"; text: string; more?: string };

let toasts: Toast[] = [];
let next = 1;
const watchers = new Set<() => void>();

function set(list: Toast[]) {
  toasts = list;
  for (const run of watchers) run();
}

function add(toast: Omit<Toast, "id">, keep_ms: number | null) {
  const id = next++;
  set([...toasts.slice(-4), { id, ...toast }]);
  if (keep_ms !== null) window.setTimeout(() => dismiss(id), keep_ms);
}

export function dismiss(id: number) {
  set(toasts.filter((toast) => toast.id !== id));
}

export function tell(text: string) {
  add({ tone: "ok", text }, 4000);
}

export function tellError(error: unknown, fallback: string) {
  const problem = problemOf(error);
  add({ tone: "bad", text: problem.detail || fallback, more: problem.remedy }, 15_000);
}

const subscribe = (run: () => void) => {
  watchers.add(run);
  return () => watchers.delete(run);
};

export function Toasts() {
  const t = useT();
  const list = useSyncExternalStore(subscribe, () => toasts);
  return (
    <div role="status" aria-live="polite" className="fixed right-4 bottom-4 z-50 flex w-80 flex-col gap-2">
      {list.map((toast) => (
        <div
          key={toast.id}
          className={cx(
            "flex gap-2 rounded-md border bg-panel px-3 py-2 shadow-lg",
            toast.tone === "ok" ? "border-ok/50" : "border-bad/60",
          )}
        >
          <div className="min-w-0 flex-1">
            <p>{toast.text}</p>
            {toast.more && <p className="text-xs text-muted">→ {toast.more}</p>}
          </div>
          <button type="button" aria-label={t("action.close")} onClick={() => dismiss(toast.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
