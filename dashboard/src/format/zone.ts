/** Wall-clock times of the site's zone, as fields of forms have them. Pure. */

/** `2026-11-29T03:00` as that zone's clock shows it → the instant, ISO in UTC; null: no time. */
export function fromWallClock(text: string, zone: string): string | null {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}/.test(text)) return null;
  const wanted_ms = Date.parse(`${text.slice(0, 16)}:00Z`);
  if (Number.isNaN(wanted_ms)) return null;
  // The offset is that of the instant sought, which differs from the first guess near a change.
  let at_ms = wanted_ms;
  for (let round = 0; round < 2; round += 1) at_ms = wanted_ms - offset_ms(at_ms, zone);
  return new Date(at_ms).toISOString();
}

/** The instant as `2026-11-29T03:00` on that zone's clock. */
export function toWallClock(at: string | number, zone: string): string {
  const at_ms = typeof at === "number" ? at : Date.parse(at);
  return new Date(at_ms + offset_ms(at_ms, zone)).toISOString().slice(0, 16);
}

function offset_ms(at_ms: number, zone: string): number {
  const parts = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  }).formatToParts(at_ms);
  const of = (type: Intl.DateTimeFormatPartTypes) =>
    Number(parts.find((part) => part.type === type)?.value ?? 0);
  const shown_ms = Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute"), of("second"));
  return shown_ms - Math.floor(at_ms / 1000) * 1000;
}
