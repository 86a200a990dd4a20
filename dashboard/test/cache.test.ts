/** News of the stream against a read that is still under way. */
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, describe, expect, it, vi } from "vitest";
import { applyOperation, applyState } from "@/stream/cache";

/** A server whose state may change after it has begun to answer: each answer is let go by hand. */
function server(initial: string) {
  const waiting: (() => void)[] = [];
  const at = { state: initial, reads: 0 };
  const read = () => {
    at.reads += 1;
    const seen = { id: "op-1", state: at.state };
    return new Promise<typeof seen>((resolve) => waiting.push(() => resolve(seen)));
  };
  return { at, read, answer: () => waiting.shift()?.() };
}

const ended = { id: "op-1", kind: "build_version", subject: "ver-1", state: "failed", step: "resolve" };

describe("news while the first read is under way", () => {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  afterEach(() => queries.clear());

  it.each([
    ["the operation that is shown", ["operation", "op-1"], () => applyOperation(queries, ended)],
    ["a list that it changed", ["builds", "ver-1"], () => applyOperation(queries, ended)],
    ["a list that a state changed", ["builds", "ver-1"], () => applyState(queries, { kind: "build" })],
    ["a cluster's node", ["cluster-health", "c-1"], () => applyState(queries, { kind: "node" })],
    ["a cluster's API", ["cluster-health", "c-1"], () => applyState(queries, { kind: "cluster_api" })],
    ["its own pods", ["cluster-health", "c-1"], () => applyState(queries, { kind: "cluster_system" })],
    ["a cluster", ["clusters", "one", "c-1"], () => applyState(queries, { kind: "cluster" })],
    ["a backup", ["cluster-backups", "c-1"], () => applyState(queries, { kind: "backup" })],
    ["a schedule's runs", ["schedule-runs", "s-1", 1], () => applyState(queries, { kind: "schedule" })],
    ["a cluster that work changed", ["clusters", "list"], () => applyOperation(queries, ended)],
  ])("%s is read once more", async (_what, queryKey, tell) => {
    const far = server("running");
    const seen: unknown[] = [];
    const observer = new QueryObserver(queries, { queryKey, queryFn: far.read });
    const stop = observer.subscribe((result) => seen.push(result.data?.state));
    await vi.waitFor(() => expect(far.at.reads).toBe(1));

    far.at.state = "failed";
    tell();
    far.answer(); // what was read before the news
    await vi.waitFor(() => expect(far.at.reads).toBe(2));
    far.answer();
    await vi.waitFor(() => expect(seen.at(-1)).toBe("failed"));
    stop();
  });

  it("reads once more however many news came meanwhile", async () => {
    const far = server("running");
    const observer = new QueryObserver(queries, { queryKey: ["builds"], queryFn: far.read });
    const stop = observer.subscribe(() => undefined);
    await vi.waitFor(() => expect(far.at.reads).toBe(1));
    for (let count = 0; count < 5; count += 1) applyState(queries, { kind: "build" });
    far.answer();
    await vi.waitFor(() => expect(far.at.reads).toBe(2));
    far.answer();
    await vi.waitFor(() => expect(queries.isFetching()).toBe(0));
    expect(far.at.reads).toBe(2);
    stop();
  });
});
