/** What a stream message changes in the query cache. */
import type { Query, QueryClient, QueryKey } from "@tanstack/react-query";
import type { Operation } from "@/api/types";
import { isEnded } from "@/format/operation";

const readingFirst = new WeakSet<Query>();

/**
 * Read again what news have changed. A first read that is still under way would swallow the wish
 * (the library joins it, and what it brings is from before the news): it is waited for.
 */
function reread(queries: QueryClient, queryKey: QueryKey): void {
  const cache = queries.getQueryCache();
  for (const query of cache.findAll({ queryKey, fetchStatus: "fetching" })) {
    if (query.state.data !== undefined || readingFirst.has(query)) continue;
    readingFirst.add(query);
    const stop = cache.subscribe((event) => {
      if (event.query !== query) return;
      if (event.type !== "removed" && query.state.fetchStatus === "fetching") return;
      stop();
      readingFirst.delete(query);
      if (event.type !== "removed") {
        void queries.invalidateQueries({ queryKey: query.queryKey, exact: true });
      }
    });
  }
  void queries.invalidateQueries({ queryKey });
}

type Listed = { items: Operation[]; next_cursor: string | null };

/** What the topic `operations` says: how far it is, without texts in anybody's language. */
export type OperationNews = Pick<
  Operation,
  "id" | "kind" | "subject" | "state" | "step" | "progress_ratio" | "progress_text" | "ended_at"
>;

export function isOperation(data: unknown): data is OperationNews {
  return (
    typeof data === "object" && data !== null && "id" in data && "kind" in data && "state" in data
  );
}

/** The known operation with the news in it; its texts stay as they were read. */
export function withNews(known: Operation, news: OperationNews): Operation {
  const { state, step, progress_ratio, progress_text, ended_at } = news;
  return { ...known, state, step, progress_ratio, progress_text, ended_at };
}

/** Whether the news tell of more than progress: then titles, steps or the error must be read. */
export function needsReading(known: Operation | undefined, news: OperationNews): boolean {
  return known === undefined || known.step !== news.step || known.state !== news.state;
}

export function applyOperation(queries: QueryClient, data: unknown): void {
  if (!isOperation(data)) return;
  const one = ["operation", data.id];
  const list = queries.getQueryData<Listed>(["operations"]);
  const listed = list?.items.find((each) => each.id === data.id);
  if (list && listed) {
    const items = list.items.map((each) => (each === listed ? withNews(each, data) : each));
    queries.setQueryData<Listed>(["operations"], { ...list, items });
  }
  const shown = queries.getQueryData<Operation>(one);
  if (shown) queries.setQueryData(one, withNews(shown, data));
  if (needsReading(listed, data)) reread(queries, ["operations"]);
  if (needsReading(shown, data)) reread(queries, one);
  if (!isEnded(data.state)) return;
  // What an operation changed is not in its message: read it again.
  for (const key of CHANGED_BY_WORK) reread(queries, [key]);
}

const CHANGED_BY_WORK = [
  "packages", "versions", "builds", "deployments", "assignments", "registry", "devices",
  "clusters", "cluster-health", "cluster-proof", "cluster-backups", "schedule-runs",
];

/** `{kind: "device", …}` → the lists that show it. */
const LISTS: Record<string, string[]> = {
  device: ["devices"],
  camera: ["cameras"],
  deployment: ["deployments", "assignments"],
  assignment: ["assignments"],
  package: ["packages", "versions"],
  version: ["versions", "packages"],
  build: ["builds", "versions", "packages"],
  site: ["site"],
  cluster: ["clusters", "cluster-health", "cluster-proof"],
  cluster_api: ["cluster-health"],
  cluster_system: ["cluster-health"],
  node: ["cluster-health", "devices"],
  backup: ["cluster-backups", "cluster-health"],
  schedule: ["schedules", "schedule-runs"],
};

export function applyState(queries: QueryClient, data: unknown): void {
  const kind = typeof data === "object" && data !== null && "kind" in data ? data.kind : null;
  const keys = typeof kind === "string" ? LISTS[kind] : undefined;
  for (const key of keys ?? ["devices", "cameras", "deployments", "assignments"]) {
    reread(queries, [key]);
  }
}
