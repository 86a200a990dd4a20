import { useMemo, useSyncExternalStore } from "react";
import { type Arguments, type Language, lookup, message, type MessageKey } from "./catalogue";
import { currentLanguage, watchLanguage } from "./language";

export type Translate = {
  <K extends MessageKey>(key: K, ...values: Arguments<K>): string;
  /** Name of a coded value, e.g. `t.code("device.state", "ok")`. */
  code(group: string, value: string | null | undefined): string;
  language: Language;
};

export function useLanguage(): Language {
  return useSyncExternalStore(watchLanguage, currentLanguage);
}

export function useT(): Translate {
  const language = useLanguage();
  return useMemo(() => {
    const t = <K extends MessageKey>(key: K, ...values: Arguments<K>) =>
      message(language, key, ...values);
    const code = (group: string, value: string | null | undefined) =>
      value ? lookup(language, `${group}.${value}`, value) : "–";
    return Object.assign(t, { code, language });
  }, [language]);
}
