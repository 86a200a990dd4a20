/** An operation with what its result says of each host: read again as it gets on. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { useOperation } from "@/api/queries";
import { isOperation } from "./cache";
import { useTopic } from "./react";

/** News come by the host and stage; they are read together. */
const NEWS_MS = 400;

export function useLiveOperation(id: string | null) {
  const queries = useQueryClient();
  const timer = useRef<number | null>(null);
  useEffect(
    () => () => {
      if (timer.current !== null) window.clearTimeout(timer.current);
      timer.current = null;
    },
    [],
  );
  useTopic(id === null ? null : "operations", ({ data }) => {
    if (!isOperation(data) || data.id !== id || timer.current !== null) return;
    timer.current = window.setTimeout(() => {
      timer.current = null;
      void queries.invalidateQueries({ queryKey: ["operation", id], exact: true });
    }, NEWS_MS);
  });
  return useOperation(id);
}
