import type { QueryClient } from "@tanstack/react-query";

/**
 * Nobody is signed in any more: the sign-in page shows, and what was read is forgotten. `me` itself
 * is set and not removed, because a removed query would not tell the page that looks at it.
 */
export function forgetSession(queries: QueryClient): void {
  queries.setQueryData(["me"], null);
  queries.removeQueries({ predicate: (query) => query.queryKey[0] !== "me" });
}
