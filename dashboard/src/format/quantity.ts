/** Numbers as people read them. Pure: language and zone come in as arguments. */

const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 100 ? 0 : 1;
  return `${value < 0 ? "-" : ""}${size.toFixed(digits)} ${UNITS[unit]}`;
}

/** A ratio of 0-1 as per cent. */
export function metres(value: number | null | undefined): string {
  return typeof value === "number" ? `${value.toFixed(value < 10 ? 1 : 0)} m` : "–";
}

export function percent(ratio: number | null | undefined, digits = 0): string {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return "–";
  return `${(ratio * 100).toFixed(digits)}%`;
}

export function shortDigest(digest: string | null | undefined): string {
  if (!digest) return "–";
  return digest.replace(/^sha256:/, "").slice(0, 12);
}
