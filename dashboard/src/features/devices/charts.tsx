/** CPU, memory and containers of a device over time; deployments are drawn as lines. */
import { useMemo, useState } from "react";
import { useBeforeAfter, useDeploymentHistory } from "@/api/queries";
import type { Deployment } from "@/api/types";
import { bytes, percent } from "@/format/quantity";
import { columns, deploymentMarks, type Point } from "@/format/series";
import { useT } from "@/i18n/react";
import { useLivePoints, usePastPoints } from "@/stream/samples";
import { Chart, PALETTE } from "@/ui/chart";
import { Empty, Panel, Tabs } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { useNow } from "@/ui/time";

const WINDOWS = {
  live: { window_s: 300, step_s: 1, hole_s: 3.5 },
  hour: { window_s: 3600, step_s: 10, hole_s: 35 },
  day: { window_s: 86_400, step_s: 120, hole_s: 400 },
} as const;
type Window = keyof typeof WINDOWS;

const NONE: Deployment[] = [];

export function DeviceCharts({ device_id }: { device_id: string }) {
  const t = useT();
  const deployments = useDeploymentHistory(device_id).data ?? NONE;
  const [shown, setShown] = useState<Window>("live");
  const { window_s, step_s, hole_s } = WINDOWS[shown];
  const live = useLivePoints(device_id, WINDOWS.live.window_s);
  const past = usePastPoints(device_id, window_s, step_s, shown !== "live");
  const query = shown === "live" ? live : past;
  const { points } = query;
  const now_s = useNow() / 1000;
  const last_s = points.at(-1)?.at_s ?? now_s;
  const to_s = shown === "live" && Math.abs(now_s - last_s) < 10 ? last_s : now_s;
  const range: [number, number] = [to_s - window_s, to_s];

  const marks = useMemo(() => deploymentMarks(deployments, device_id), [deployments, device_id]);
  const host = useMemo(
    () => columns(points, [(p) => p.cpu, (p) => p.memory], hole_s),
    [points, hole_s],
  );
  const running = useMemo(() => containersOf(points, deployments), [points, deployments]);
  const cpu = useMemo(
    () => columns(points, running.map(({ id }) => (p: Point) => p.containers.get(id)?.cpu ?? null), hole_s),
    [points, running, hole_s],
  );
  const memory = useMemo(
    () =>
      columns(
        points,
        running.map(({ id }) => (p: Point) => p.containers.get(id)?.memory_bytes ?? null),
        hole_s,
      ),
    [points, running, hole_s],
  );
  const series = running.map(({ name }, index) => ({
    name,
    color: PALETTE[index % PALETTE.length] ?? "#43bdb3",
  }));

  return (
    <Panel
      title={t("device.charts")}
      actions={
        <Tabs
          label={t("chart.window")}
          value={shown}
          onChange={setShown}
          options={[
            ["live", t("chart.live")],
            ["hour", t("chart.hour")],
            ["day", t("chart.day")],
          ]}
        />
      }
    >
      {query.isError && <ProblemNotice error={query.error} retry={() => void query.refetch()} />}
      {points.length === 0 && !query.isPending ? (
        <Empty title={t("chart.empty")} hint={t("chart.emptyHint")} />
      ) : (
        <div className="grid gap-x-6 gap-y-4 lg:grid-cols-2">
          <div className="lg:col-span-2">
            <h3 className="mb-1 text-xs text-muted">{t("chart.host")}</h3>
            <Chart
              label={t("chart.host")}
              data={host}
              range={range}
              marks={marks}
              max={1}
              height={200}
              format={(value) => percent(value)}
              series={[
                { name: "CPU", color: "#43bdb3", fill: true },
                { name: t("metric.memory"), color: "#6ea8fe" },
              ]}
            />
            <BeforeAfter device_id={device_id} deployments={deployments} />
          </div>
          {running.length > 0 && (
            <>
              <div>
                <h3 className="mb-1 text-xs text-muted">{t("chart.containerCpu")}</h3>
                <Chart
                  label={t("chart.containerCpu")}
                  data={cpu}
                  range={range}
                  marks={marks}
                  height={150}
                  format={(value) => percent(value, value < 0.1 ? 1 : 0)}
                  series={series}
                />
              </div>
              <div>
                <h3 className="mb-1 text-xs text-muted">{t("chart.containerMemory")}</h3>
                <Chart
                  label={t("chart.containerMemory")}
                  data={memory}
                  range={range}
                  marks={marks}
                  height={150}
                  format={(value) => bytes(value)}
                  series={series}
                />
              </div>
            </>
          )}
        </div>
      )}
    </Panel>
  );
}

/** What the newest deployment changed: the mean of the minute before and after it was proven. */
function BeforeAfter({ device_id, deployments }: { device_id: string; deployments: Deployment[] }) {
  const t = useT();
  const newest = deployments
    .filter((each) => each.started_at !== null)
    .sort((a, b) => (b.started_at ?? "").localeCompare(a.started_at ?? ""))[0];
  const { data } = useBeforeAfter(device_id, newest?.started_at ?? null);
  if (!newest || !data || data.before === null || data.after === null) return null;
  return (
    <p className="mt-1 px-1 text-xs text-muted">
      {t("chart.beforeAfter", { name: `${newest.package_name}:${newest.version}` })}{" "}
      <b className="text-text tabular-nums">
        {percent(data.before, 1)} → {percent(data.after, 1)}
      </b>
    </p>
  );
}

/** The containers that the points know, in the order of their deployments. */
function containersOf(points: Point[], deployments: Deployment[]): { id: string; name: string }[] {
  const ids = new Set<string>();
  for (const point of points) for (const id of point.containers.keys()) ids.add(id);
  return [...ids].sort().map((id) => {
    const deployment = deployments.find((each) => each.id === id);
    return { id, name: deployment ? `${deployment.package_name}:${deployment.version}` : id };
  });
}
