/** Instants and durations for people; the site's zone decides what the clock shows. */
import type { Language } from "@/i18n/catalogue";

const LOCALE: Record<Language, string> = { ko: "ko-KR", en: "en-GB" };
const formats = new Map<string, Intl.DateTimeFormat>();

function format(language: Language, zone: string, style: "full" | "clock"): Intl.DateTimeFormat {
  const key = `${language}|${zone}|${style}`;
  let found = formats.get(key);
  if (!found) {
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
    const date = { year: "numeric", month: "2-digit", day: "2-digit" } as const;
    found = new Intl.DateTimeFormat(LOCALE[language], {
      timeZone: zone,
      ...clock,
      ...(style === "full" ? date : {}),
    });
    formats.set(key, found);
  }
  return found;
}

export function dateTime(at: string | number | null | undefined, language: Language, zone: string) {
  const date = toDate(at);
  return date ? format(language, zone, "full").format(date) : "–";
}

export function clockTime(at: string | number | null | undefined, language: Language, zone: string) {
  const date = toDate(at);
  return date ? format(language, zone, "clock").format(date) : "–";
}

const STEPS: [limit_s: number, unit: Intl.RelativeTimeFormatUnit, size_s: number][] = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [Number.POSITIVE_INFINITY, "day", 86_400],
];

/** "3분 전", "in 5 minutes": against `now_ms`. */
export function relative(at: string | number | null | undefined, now_ms: number, language: Language) {
  const date = toDate(at);
  if (!date) return "–";
  const delta_s = (date.getTime() - now_ms) / 1000;
  const size = Math.abs(delta_s);
  const [, unit, size_s] = STEPS.find(([limit_s]) => size < limit_s) ?? STEPS[3]!;
  return new Intl.RelativeTimeFormat(LOCALE[language], { numeric: "auto" }).format(
    Math.trunc(delta_s / size_s),
    unit,
  );
}

/** A span as m:ss or h:mm:ss. */
export function span(from: string | null | undefined, to_ms: number): string {
  const date = toDate(from);
  if (!date) return "–";
  const total_s = Math.max(0, Math.floor((to_ms - date.getTime()) / 1000));
  const s = String(total_s % 60).padStart(2, "0");
  const m = Math.floor(total_s / 60) % 60;
  const h = Math.floor(total_s / 3600);
  return h > 0 ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

function toDate(at: string | number | null | undefined): Date | null {
  if (at === null || at === undefined || at === "") return null;
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}
