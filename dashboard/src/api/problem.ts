/** Every failure of a call as one error that can be shown: problem+json, or what stands for it. */
import type { Problem } from "./types";

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(`${problem.code}: ${problem.detail}`);
    this.name = "ProblemError";
  }
}

/** Codes made here, for failures in which the server said nothing of its own. */
export const UNREACHABLE = "dashboard.unreachable";
export const UNREADABLE = "dashboard.unreadable";

export function isProblem(value: unknown): value is Problem {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as Problem).code === "string" &&
    typeof (value as Problem).detail === "string"
  );
}

export function toProblem(value: unknown, status: number): Problem {
  if (isProblem(value)) return { ...value, data: value.data ?? {}, remedy: value.remedy ?? "" };
  return {
    type: "about:blank",
    title: "",
    status,
    code: status === 0 ? UNREACHABLE : UNREADABLE,
    detail: "",
    remedy: "",
    data: {},
  };
}

export function problemOf(error: unknown): Problem {
  return error instanceof ProblemError ? error.problem : toProblem(null, 0);
}

/** What was wrong with an upload, one by one (`data.problems`). */
export type Finding = { code: string; path: string | null; detail: string; remedy: string };

export function findingsOf(problem: Problem): Finding[] {
  const list = problem.data.problems;
  if (!Array.isArray(list)) return [];
  return list.map((entry: unknown) => {
    if (typeof entry === "string") return { code: "", path: null, detail: entry, remedy: "" };
    const found = (entry ?? {}) as Record<string, unknown>;
    const text = (key: string) => (typeof found[key] === "string" ? (found[key] as string) : "");
    return {
      code: text("code"),
      path: text("path") || pathOf(found.data),
      detail: text("detail") || text("message") || text("code"),
      remedy: text("remedy"),
    };
  });
}

function pathOf(data: unknown): string | null {
  const path = typeof data === "object" && data !== null && "path" in data ? data.path : null;
  return typeof path === "string" && path ? path : null;
}

/** Where something is still in use (`data.where`). */
export type Place = { kind: string; id: string; name: string; facts: string };

export function placesOf(problem: Problem): Place[] {
  const list = problem.data.where;
  if (!Array.isArray(list)) return [];
  return list.map((entry: unknown) => {
    if (typeof entry === "string") return { kind: "", id: "", name: entry, facts: "" };
    const { kind, id, name, ...facts } = (entry ?? {}) as Record<string, unknown>;
    const shown = Object.values(facts).filter((value) => typeof value === "string");
    return {
      kind: String(kind ?? ""),
      id: String(id ?? ""),
      name: String(name ?? ""),
      facts: shown.join(" · "),
    };
  });
}
