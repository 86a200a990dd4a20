/** Samples turned into what charts draw. Pure. */
import type { Deployment, Sample } from "@/api/types";

export type Point = {
  at_s: number;
  cpu: number;
  memory: number;
  temperature: number | null;
  containers: Map<string, { cpu: number; memory_bytes: number; lag_ms: number | null }>;
};

export function toPoint(sample: Sample): Point | null {
  const at_s = Date.parse(sample.at) / 1000;
  if (!Number.isFinite(at_s)) return null;
  const containers: Point["containers"] = new Map();
  for (const each of sample.containers ?? []) {
    containers.set(each.deployment_id, {
      cpu: each.cpu_ratio,
      memory_bytes: each.memory_bytes,
      lag_ms: each.frame_lag_ms ?? null,
    });
  }
  return {
    at_s,
    cpu: sample.cpu_ratio,
    memory:
      sample.memory_total_bytes > 0 ? sample.memory_used_bytes / sample.memory_total_bytes : Number.NaN,
    temperature: sample.temperature_c ?? null,
    containers,
  };
}

/**
 * Add one point in time order and forget what left the window. Late points (back-filled after an
 * outage) find their place; the same instant twice counts once.
 */
export function addPoint(points: Point[], point: Point, window_s: number): Point[] {
  const last = points.at(-1);
  let next: Point[];
  if (!last || point.at_s > last.at_s) {
    next = [...points, point];
  } else {
    const at = points.findIndex((each) => each.at_s >= point.at_s);
    if (points[at]?.at_s === point.at_s) return points;
    next = [...points.slice(0, at), point, ...points.slice(at)];
  }
  const oldest_s = (next.at(-1)?.at_s ?? 0) - window_s;
  const first = next.findIndex((each) => each.at_s >= oldest_s);
  return first > 0 ? next.slice(first) : next;
}

/** uPlot columns; a hole of more than `hole_s` becomes a break in the line, never a bridge. */
export function columns(
  points: Point[],
  pick: ((point: Point) => number | null)[],
  hole_s: number,
): [number[], ...(number | null)[][]] {
  const times: number[] = [];
  const series: (number | null)[][] = pick.map(() => []);
  let before_s: number | null = null;
  for (const point of points) {
    if (before_s !== null && point.at_s - before_s > hole_s) {
      times.push((before_s + point.at_s) / 2);
      for (const one of series) one.push(null);
    }
    times.push(point.at_s);
    pick.forEach((value, index) => {
      const number = value(point);
      series[index]?.push(number !== null && Number.isFinite(number) ? number : null);
    });
    before_s = point.at_s;
  }
  return [times, ...series];
}

export type ChartMark = { at_s: number; label: string; tone: "start" | "end" };

/** Where deployments began and ended on a device: the before and after of a chart. */
export function deploymentMarks(deployments: Deployment[], device_id: string): ChartMark[] {
  return deployments
    .filter((each) => each.device_id === device_id)
    .flatMap((each) => {
      const name = `${each.package_name}:${each.version}`;
      const marks: ChartMark[] = [
        { at_s: Date.parse(each.started_at ?? each.created_at) / 1000, label: name, tone: "start" },
      ];
      // A version that another one replaced ends where that one begins: one line is enough.
      if (each.ended_at && each.outcome !== "replaced") {
        marks.push({ at_s: Date.parse(each.ended_at) / 1000, label: `✕ ${name}`, tone: "end" });
      }
      return marks.filter((mark) => Number.isFinite(mark.at_s));
    });
}
