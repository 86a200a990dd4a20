/**
 * States, with one colour language for all pages. Never colour alone: each tone has its own shape
 * and the state's name stands beside it.
 */
import { useT } from "@/i18n/react";
import { cx } from "./cx";

export type Tone = "ok" | "warn" | "bad" | "info" | "idle";

const TONE_OF: Record<string, Tone> = {
  ok: "ok",
  running: "ok",
  succeeded: "ok",
  built: "ok",
  planned: "info",
  stopping: "warn",
  pushing: "info",
  online: "ok",
  silent: "warn",
  cancelling: "warn",
  unauthorized: "warn",
  degraded: "warn",
  unhealthy: "warn",
  restarting: "warn",
  dead: "bad",
  failed: "bad",
  offline: "bad",
  crashed: "bad",
  exited: "bad",
  absent: "bad",
  refused: "bad",
  denied: "bad",
  pending: "info",
  starting: "info",
  building: "info",
  queued: "info",
  proving: "info",
  pulling: "info",
  forming: "info",
  joining: "info",
  ready: "ok",
  leaving: "warn",
  cleaning: "warn",
  deleting: "warn",
  away: "bad",
  clean: "ok",
  renewed: "ok",
  differs: "warn",
  waiting: "info",
  missed: "bad",
  skipped: "warn",
};

/** `group` because running is good for an AI, but only under way for an operation. */
export function toneOf(state: string | null | undefined, group = ""): Tone {
  if (state === "running" && (group === "operation.state" || group === "schedule.run")) return "info";
  // Every stage of a host on its way is under way, also those that other releases name.
  if (state && group === "cluster.stage") return TONE_OF[state] ?? "info";
  return (state && TONE_OF[state]) || "idle";
}

const TEXT: Record<Tone, string> = {
  ok: "text-ok",
  warn: "text-warn",
  bad: "text-bad",
  info: "text-info",
  idle: "text-idle",
};

export function Mark({ tone, className }: { tone: Tone; className?: string }) {
  return (
    <svg viewBox="0 0 12 12" aria-hidden className={cx("size-2.5 shrink-0", TEXT[tone], className)}>
      {tone === "ok" && <circle cx="6" cy="6" r="5" fill="currentColor" />}
      {tone === "warn" && <path d="M6 0.8 11.6 11H0.4z" fill="currentColor" />}
      {tone === "bad" && <path d="M1 1h10v10H1z" fill="currentColor" />}
      {tone === "info" && (
        <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" strokeWidth="2.4" />
      )}
      {tone === "idle" && (
        <circle cx="6" cy="6" r="4.4" fill="none" stroke="currentColor" strokeWidth="1.4" />
      )}
    </svg>
  );
}

/** `group` names the messages (`device.state` → `device.state.ok`). */
export function State({ group, value }: { group: string; value: string | null | undefined }) {
  const t = useT();
  const tone = toneOf(value, group);
  return (
    <span className={cx("inline-flex items-center gap-1.5 whitespace-nowrap", TEXT[tone])}>
      <Mark tone={tone} />
      {t.code(group, value)}
    </span>
  );
}

export function Chip({ children, tone = "idle" }: { children: React.ReactNode; tone?: Tone }) {
  return (
    <span
      className={cx(
        "inline-flex items-center rounded border border-current/30 px-1.5 text-xs whitespace-nowrap",
        tone === "idle" ? "text-muted" : TEXT[tone],
      )}
    >
      {children}
    </span>
  );
}
