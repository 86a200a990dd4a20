/** What a stream message changes in the query cache. */
import type { QueryClient } from "@tanstack/react-query";
import type { Operation } from "@/api/types";
import { isEnded } from "@/format/operation";

type Listed = { items: Operation[] };

export function isOperation(data: unknown): data is Operation {
  return (
    typeof data === "object" && data !== null && "id" in data && "kind" in data && "state" in data
  );
}

/** Newest first; an operation that is known is replaced in its place. */
export function mergeOperation(items: Operation[], operation: Operation): Operation[] {
  const at = items.findIndex((item) => item.id === operation.id);
  if (at < 0) return [operation, ...items];
  const next = items.slice();
  next[at] = { ...items[at], ...operation };
  return next;
}

export function applyOperation(queries: QueryClient, data: unknown): void {
  if (!isOperation(data)) return;
  queries.setQueryData<Listed>(["operations"], (known) =>
    known ? { ...known, items: mergeOperation(known.items, data) } : known,
  );
  queries.setQueryData(["operation", data.id], data);
  if (!isEnded(data.state)) return;
  // What an operation changed is not in its message: read it again.
  for (const key of ["packages", "versions", "deployments", "assignments", "registry", "devices"]) {
    void queries.invalidateQueries({ queryKey: [key] });
  }
}

/** `{kind: "device", …}` → the lists that show it. */
const LISTS: Record<string, string[]> = {
  device: ["devices"],
  camera: ["cameras"],
  deployment: ["deployments", "assignments"],
  assignment: ["assignments"],
  package: ["packages", "versions"],
  version: ["versions", "packages"],
  build: ["versions", "packages"],
  site: ["site"],
};

export function applyState(queries: QueryClient, data: unknown): void {
  const kind = typeof data === "object" && data !== null && "kind" in data ? data.kind : null;
  const keys = typeof kind === "string" ? LISTS[kind] : undefined;
  for (const key of keys ?? ["devices", "cameras", "deployments", "assignments"]) {
    void queries.invalidateQueries({ queryKey: [key] });
  }
}
