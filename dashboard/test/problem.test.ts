import { describe, expect, it } from "vitest";
import type { Operation } from "@/api/types";
import { findingsOf, placesOf, ProblemError, problemOf, toProblem, UNREACHABLE, UNREADABLE } from "@/api/problem";
import { isOperation, needsReading, type OperationNews, withNews } from "@/stream/cache";

const problem = (data: Record<string, unknown>) =>
  toProblem({ code: "packages.refused", detail: "no", title: "", remedy: "", status: 422, data }, 422);

describe("problems", () => {
  it("keep what the server said", () => {
    expect(problemOf(new ProblemError(problem({}))).code).toBe("packages.refused");
  });
  it("stand in for a server that said nothing", () => {
    expect(problemOf(new TypeError("network")).code).toBe(UNREACHABLE);
    expect(toProblem("<html>", 502).code).toBe(UNREADABLE);
  });
  it("list every finding of a refused upload", () => {
    const found = findingsOf(
      problem({
        problems: [
          { code: "packages.no_dockerfile", detail: "A", remedy: "B" },
          { code: "packages.traversal", path: "../x", detail: "C", remedy: "D" },
          "plain",
        ],
      }),
    );
    expect(found.map((each) => [each.path, each.detail])).toEqual([
      [null, "A"],
      ["../x", "C"],
      [null, "plain"],
    ]);
    expect(findingsOf(problem({ problems: "text" }))).toEqual([]);
  });
  it("say where a thing is used", () => {
    const where = [{ kind: "deployment", id: "dep-a", name: "gate", version: "2" }];
    expect(placesOf(problem({ where }))).toEqual([
      { kind: "deployment", id: "dep-a", name: "gate", facts: "2" },
    ]);
  });
});

describe("news of operations", () => {
  const known = {
    id: "op-a",
    kind: "build_package",
    subject: "ver-a",
    title: "빌드",
    state: "running",
    step: "build",
    progress_ratio: 0.1,
    progress_text: "",
    ended_at: null,
    error: null,
  } as unknown as Operation;
  const news = { ...known, progress_ratio: 0.5, error: { code: "x" } } as unknown as OperationNews;

  it("move the progress and leave texts alone", () => {
    expect(withNews(known, news)).toMatchObject({ progress_ratio: 0.5, title: "빌드", error: null });
  });
  it("ask for a fresh read only when more than progress changed", () => {
    expect(needsReading(known, news)).toBe(false);
    expect(needsReading(known, { ...news, step: "push" })).toBe(true);
    expect(needsReading(known, { ...news, state: "failed" })).toBe(true);
    expect(needsReading(undefined, news)).toBe(true);
  });
  it("are recognised", () => {
    expect(isOperation(news)).toBe(true);
    expect(isOperation("x")).toBe(false);
  });
});
