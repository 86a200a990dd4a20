/** What a result shows on a picture. Pure. */
import type { Seen } from "@/api/types";

/** The objects of a result as they came in; whatever is not a box is left out. */
export function seenOf(data: unknown): Seen[] {
  const objects =
    typeof data === "object" && data !== null && "objects" in data ? data.objects : null;
  return Array.isArray(objects) ? objects.filter(isSeen) : [];
}

function isSeen(value: unknown): value is Seen {
  if (typeof value !== "object" || value === null) return false;
  const { box } = value as { box?: unknown };
  return Array.isArray(box) && box.length === 4 && box.every((part) => Number.isFinite(part));
}

export function boxLabel(seen: Seen): string {
  const probability = Number.isFinite(seen.class_prob) ? ` ${seen.class_prob.toFixed(2)}` : "";
  return `${seen.class}${probability}`;
}

const COLORS = ["#43bdb3", "#e5b04a", "#6ea8fe", "#c58af9", "#8bd17c", "#f28cb1", "#f0a05c"];

/** The same class has the same colour on every camera and after every reload. */
export function boxColor(name: string): string {
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  return COLORS[hash % COLORS.length] ?? "#43bdb3";
}

/** "person 3 · car 1", or nothing. */
export function countClasses(seen: Seen[]): [name: string, count: number][] {
  const counts = new Map<string, number>();
  for (const each of seen) counts.set(each.class, (counts.get(each.class) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

/** What was seen at one instant. */
export type Moment = { at_ms: number; seen: Seen[] };

/** Results older than this against the newest are forgotten. */
const KEPT_MS = 15_000;
/** Boxes further from the picture's time than this are not about what it shows. */
const NEAR_MS = 1500;

export function momentOf(data: unknown): Moment | null {
  const at = typeof data === "object" && data !== null && "captured_at" in data ? data.captured_at : null;
  const at_ms = typeof at === "string" ? Date.parse(at) : Number.NaN;
  return Number.isFinite(at_ms) ? { at_ms, seen: seenOf(data) } : null;
}

export function remember(moments: Moment[], moment: Moment): Moment[] {
  return [...moments, moment].filter((each) => moment.at_ms - each.at_ms < KEPT_MS);
}

/** The moment nearest to a picture's time; the newest where the picture does not know its own. */
export function closest(moments: Moment[], at_ms: number | null): Moment | undefined {
  if (at_ms === null) return moments.at(-1);
  let best: Moment | undefined;
  for (const each of moments) {
    const distance = Math.abs(each.at_ms - at_ms);
    if (distance <= NEAR_MS && (!best || distance < Math.abs(best.at_ms - at_ms))) best = each;
  }
  return best;
}

/** Where a picture lies in a box that shows all of it, centred. */
export function contain(width: number, height: number, boxWidth: number, boxHeight: number) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  const shown = { width: width * scale, height: height * scale };
  return { ...shown, x: (boxWidth - shown.width) / 2, y: (boxHeight - shown.height) / 2 };
}
