/** What a person typed, as the kind of value that the setting has now. */
export function parseLike(sample: unknown, text: string): string | number | boolean {
  const plain = text.trim();
  if (typeof sample === "number" && plain !== "" && Number.isFinite(Number(plain))) {
    return Number(plain);
  }
  if (typeof sample === "boolean" && /^(true|false)$/i.test(plain)) {
    return plain.toLowerCase() === "true";
  }
  return plain;
}
