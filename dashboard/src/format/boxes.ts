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
