/** Whether what is shown is live: an operator must never mistake a frozen page for a calm site. */
import { useT } from "@/i18n/react";
import { useStreamState } from "@/stream/react";
import { Mark } from "@/ui/status";
import { useNow } from "@/ui/time";

export function Connection() {
  const t = useT();
  const state = useStreamState();
  const now = useNow();
  const live = state.kind === "live";
  const text =
    state.kind === "waiting"
      ? t("stream.waiting", { seconds: Math.max(0, Math.ceil((state.retry_at_ms - now) / 1000)) })
      : live
        ? t("stream.live")
        : t("stream.connecting");
  return (
    <span
      role="status"
      className={`inline-flex items-center gap-1.5 rounded px-2 py-1 text-xs ${live ? "text-muted" : "bg-warn/15 text-warn"}`}
    >
      <Mark tone={live ? "ok" : "warn"} />
      <span className={live ? "hidden whitespace-nowrap sm:inline" : "whitespace-nowrap"}>{text}</span>
    </span>
  );
}
