/** A log that is read once and then followed live. Pure. */

export const LOG_LIMIT = 5000;

/** One message of a `log:` topic: a line of text, or several. */
export function linesOf(data: unknown): string[] {
  return typeof data === "string" ? data.split("\n") : [];
}

/**
 * What was read, then what came live. Following began before reading, so the first live lines may
 * be the last ones read: the longest such overlap is shown once.
 */
export function joinLines(read: string[], live: string[]): string[] {
  for (let size = Math.min(read.length, live.length); size > 0; size -= 1) {
    const start = read.length - size;
    if (live.slice(0, size).every((line, index) => line === read[start + index])) {
      return [...read, ...live.slice(size)].slice(-LOG_LIMIT);
    }
  }
  return [...read, ...live].slice(-LOG_LIMIT);
}
