import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { lookup, message } from "@/i18n/catalogue";
import { en } from "@/i18n/en";
import { ko } from "@/i18n/ko";

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

const source = new URL("../src", import.meta.url).pathname;
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
  (name) => /\.tsx?$/.test(name) && !name.startsWith("i18n/") && !name.endsWith("schema.ts"),
);
const code = files.map((name) => readFileSync(join(source, name), "utf8"));

describe("catalogue", () => {
  it("has the same keys in both languages", () => {
    expect(Object.keys(en).sort()).toEqual(Object.keys(ko).sort());
  });

  it.each(Object.keys(ko) as (keyof typeof ko)[])("%s: same placeholders, no empty text", (key) => {
    expect(placeholders(en[key])).toEqual(placeholders(ko[key]));
    expect(ko[key].trim()).not.toBe("");
    expect(en[key].trim()).not.toBe("");
  });

  it("speaks Korean in Korean, except where it offers English", () => {
    const foreign = Object.entries(ko).filter(([, text]) => !/[가-힣]/.test(text));
    expect(foreign.map(([key]) => key)).toEqual(["language.switch"]);
  });

  it("has no key that no page uses", () => {
    const all = code.join("\n");
    const groups = [...all.matchAll(/(?:code\(\s*|group=)"([\w.]+)"/g)].map(([, group]) => `${group}.`);
    const unused = Object.keys(ko).filter(
      (key) => !all.includes(`"${key}"`) && !groups.some((group) => key.startsWith(group)),
    );
    expect(unused).toEqual([]);
  });

  it("holds every text: no page writes Korean of its own", () => {
    const own = files.filter((name, index) => /[가-힣]/.test(code[index] ?? "") && name !== "shell/account.tsx");
    // Comments and JSDoc may quote Korean; string literals and JSX text may not.
    const guilty = own.filter((name) => {
      const text = (code[files.indexOf(name)] ?? "").replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/.*$/gm, "");
      return /[가-힣]/.test(text);
    });
    expect(guilty).toEqual([]);
  });
});

describe("messages", () => {
  it("fills in values", () => {
    expect(message("ko", "stream.waiting", { seconds: 3 })).toContain("3초");
    expect(message("en", "stream.waiting", { seconds: 3 })).toContain("3 s");
  });

  it("shows an unknown code as it is", () => {
    expect(lookup("ko", "device.state.ok", "ok")).toBe("정상");
    expect(lookup("ko", "device.state.exploded", "exploded")).toBe("exploded");
    expect(lookup("ko", "constructor", "constructor")).toBe("constructor");
  });
});
