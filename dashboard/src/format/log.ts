/** Live log messages joined to what was read before. Pure. */

export type LogPart = { lines: string[]; first: number | null };

/** `{line, n}` or `{lines, n}`; `n` is the number of the (first) line, counted from 1. */
export function linesOf(data: unknown): LogPart {
  if (typeof data === "string") return { lines: [data], first: null };
  if (typeof data !== "object" || data === null) return { lines: [], first: null };
  const { line, lines, n } = data as { line?: unknown; lines?: unknown; n?: unknown };
  const first = typeof n === "number" ? n : null;
  if (Array.isArray(lines)) return { lines: lines.map(String), first };
  return typeof line === "string" ? { lines: [line], first } : { lines: [], first };
}

export const LOG_LIMIT = 5000;

export function appendLines(known: string[], part: LogPart): string[] {
  if (part.lines.length === 0) return known;
  if (part.first === null) return [...known, ...part.lines].slice(-LOG_LIMIT);
  const next = known.slice();
  part.lines.forEach((line, index) => {
    next[(part.first ?? 1) - 1 + index] = line;
  });
  for (let index = 0; index < next.length; index += 1) next[index] ??= "";
  return next;
}
