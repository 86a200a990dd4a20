/** Coordinates as one text, "latitude, longitude", as maps give them to copy. Pure. */
export type Gps = { latitude: number; longitude: number };

/** For an input's `pattern`. */
export const GPS_PATTERN = String.raw`\s*[+\-]?\d+(\.\d+)?\s*,\s*[+\-]?\d+(\.\d+)?\s*`;

export function gpsText(gps: Gps | null | undefined): string {
  return gps ? `${gps.latitude}, ${gps.longitude}` : "";
}

/** Null where nothing is entered, or nothing that is two numbers. */
export function parseGps(text: string): Gps | null {
  if (!new RegExp(`^${GPS_PATTERN}$`).test(text)) return null;
  const [latitude, longitude] = text.split(",").map(Number);
  return latitude === undefined || longitude === undefined ? null : { latitude, longitude };
}
