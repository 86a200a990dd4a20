/** Instants on pages: relative ones tick together, the exact one is in the tooltip. */
import { useSyncExternalStore } from "react";
import { useSite } from "@/api/queries";
import { clockTime, dateTime, relative } from "@/format/time";
import { useLanguage } from "@/i18n/react";

let now_ms = Date.now();
const watchers = new Set<() => void>();
let timer: number | null = null;

function subscribe(run: () => void) {
  watchers.add(run);
  timer ??= window.setInterval(() => {
    now_ms = Date.now();
    for (const each of watchers) each();
  }, 1000);
  return () => {
    watchers.delete(run);
    if (watchers.size === 0 && timer !== null) {
      window.clearInterval(timer);
      timer = null;
    }
  };
}

/** The wall clock, once a second. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now_ms);
}

export function useZone(): string {
  return useSite().data?.timezone ?? "Asia/Seoul";
}

export function Ago({ at }: { at: string | null | undefined }) {
  const language = useLanguage();
  const zone = useZone();
  const now = useNow();
  return <time title={dateTime(at, language, zone)}>{relative(at, now, language)}</time>;
}

export function Clock({ at, full }: { at: string | null | undefined; full?: boolean }) {
  const language = useLanguage();
  const zone = useZone();
  const text = full ? dateTime(at, language, zone) : clockTime(at, language, zone);
  return <time title={dateTime(at, language, zone)}>{text}</time>;
}
