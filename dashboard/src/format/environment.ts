/** `NAME=value` lines as a person types them. */
export function parseEnvironment(text: string): { values: Record<string, string>; bad: number[] } {
  const values: Record<string, string> = {};
  const bad: number[] = [];
  text.split("\n").forEach((raw, index) => {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) return;
    const found = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (found?.[1] === undefined) bad.push(index + 1);
    else values[found[1]] = found[2] ?? "";
  });
  return { values, bad };
}
