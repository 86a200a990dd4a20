/** The typed message catalogue: a key or placeholder missing in either language does not compile. */
import { en } from "./en";
import { ko } from "./ko";

export type Language = "ko" | "en";
export type MessageKey = keyof typeof ko;

type Names<S extends string> = S extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Names<Rest>
  : never;
type NamesOf<K extends MessageKey> = Names<(typeof ko)[K]>;
/** Messages that need no values: what may stand in tables of names. */
export type PlainKey = { [K in MessageKey]: [NamesOf<K>] extends [never] ? K : never }[MessageKey];
export type Values = Record<string, string | number>;
/** A message with placeholders demands their values; one without takes none. */
export type Arguments<K extends MessageKey> = [NamesOf<K>] extends [never]
  ? []
  : [values: Record<NamesOf<K>, string | number>];

const catalogues: Record<Language, Record<MessageKey, string>> = { ko, en };

export function message<K extends MessageKey>(
  language: Language,
  key: K,
  ...[values]: Arguments<K>
): string {
  return fill(catalogues[language][key], values as Values | undefined);
}

/** For keys made of data (`state.device.${state}`): the plain value where there is no message. */
export function lookup(language: Language, key: string, fallback: string): string {
  const catalogue: Record<string, string> = catalogues[language];
  return Object.hasOwn(catalogue, key) ? (catalogue[key] ?? fallback) : fallback;
}

function fill(template: string, values: Values | undefined): string {
  if (!values) return template;
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}
