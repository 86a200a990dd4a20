/** Loading, failure and content of a query in one place, so that no page forgets one of them. */
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useT } from "@/i18n/react";
import { ProblemNotice } from "./problem";

export function Loaded<T>({
  query,
  children,
  rows = 3,
}: {
  query: UseQueryResult<T>;
  children: (data: T) => ReactNode;
  rows?: number;
}) {
  if (query.data !== undefined) {
    return (
      <>
        {query.isError && (
          <div className="p-2">
            <ProblemNotice error={query.error} retry={() => void query.refetch()} />
          </div>
        )}
        {children(query.data)}
      </>
    );
  }
  if (query.isError) {
    return (
      <div className="p-2">
        <ProblemNotice error={query.error} retry={() => void query.refetch()} />
      </div>
    );
  }
  return <Skeleton rows={rows} />;
}

export function Skeleton({ rows }: { rows: number }) {
  const t = useT();
  return (
    <div role="status" aria-label={t("state.loading")} className="flex flex-col gap-2 p-3">
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className="h-4 animate-pulse rounded bg-raised" />
      ))}
    </div>
  );
}
