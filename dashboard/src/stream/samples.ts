/** A device's newest samples: what is stored first, then one more each second from the stream. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { readSamples } from "@/api/queries";
import type { Sample } from "@/api/types";
import { addPoint, type Point, toPoint } from "@/format/series";
import { useTopic } from "./react";

const NONE: Point[] = [];

export function useLivePoints(device_id: string, window_s: number, enabled = true) {
  const queries = useQueryClient();
  const key = ["samples", device_id, "live", window_s];
  const query = useQuery({
    queryKey: key,
    enabled,
    staleTime: Number.POSITIVE_INFINITY, // kept current by the stream; a gap invalidates it
    gcTime: 60_000,
    queryFn: async () => {
      const now_ms = Date.now();
      const rows = await readSamples(
        device_id,
        new Date(now_ms - window_s * 1000),
        new Date(now_ms + 60_000),
        1,
      );
      return toPoints(rows, window_s);
    },
  });
  useTopic(enabled ? `samples:${device_id}` : null, (message) => {
    const point = toPoint(message.data as Sample);
    if (!point) return;
    queries.setQueryData<Point[]>(key, (points) => addPoint(points ?? NONE, point, window_s));
  });
  return { ...query, points: query.data ?? NONE };
}

export function usePastPoints(device_id: string, window_s: number, step_s: number, enabled: boolean) {
  const query = useQuery({
    queryKey: ["samples", device_id, "past", window_s, step_s],
    enabled,
    refetchInterval: Math.max(10, step_s) * 1000,
    queryFn: async () => {
      const now_ms = Date.now();
      const rows = await readSamples(
        device_id,
        new Date(now_ms - window_s * 1000),
        new Date(now_ms),
        step_s,
      );
      return toPoints(rows, window_s);
    },
  });
  return { ...query, points: query.data ?? NONE };
}

function toPoints(rows: Sample[], window_s: number): Point[] {
  const points = rows.map(toPoint).filter((point): point is Point => point !== null);
  points.sort((a, b) => a.at_s - b.at_s);
  const oldest_s = (points.at(-1)?.at_s ?? 0) - window_s;
  return points.filter((point) => point.at_s >= oldest_s);
}
