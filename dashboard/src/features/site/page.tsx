/** The site at a glance: this is the page of the wall display. */
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import {
  useAssignments,
  useCameras,
  useDeployments,
  useDevices,
  useResultSummary,
  useSite,
} from "@/api/queries";
import type { Camera, Deployment, Device } from "@/api/types";
import { CameraTile } from "@/features/cameras/tile";
import { OperationLine, useRunning } from "@/features/operations/drawer";
import { useOperationsDrawer } from "@/features/operations/context";
import { standing } from "@/format/deployment";
import { percent } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { useLivePoints } from "@/stream/samples";
import { Button } from "@/ui/button";
import { Empty, Figure, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Sparkline } from "@/ui/sparkline";
import { State, toneOf } from "@/ui/status";
import { Ago } from "@/ui/time";

export function SitePage() {
  const t = useT();
  const site = useSite().data;
  const devices = useDevices();
  const cameras = useCameras();
  const deployments = useDeployments();
  return (
    <Page
      title={t("site.title")}
      above={site?.postal_address}
      actions={
        <Counters
          devices={devices.data ?? []}
          cameras={cameras.data ?? []}
          deployments={deployments.data ?? []}
        />
      }
    >
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_24rem]">
        <Panel title={t("cameras.title")} flush>
          <Loaded query={cameras} rows={8}>
            {(list) =>
              list.length === 0 ? (
                <Empty
                  title={t("cameras.empty")}
                  hint={t("cameras.emptyHint")}
                  action={<LinkButton to="/cameras" text={t("cameras.add")} />}
                />
              ) : (
                <CameraGrid cameras={list} />
              )
            }
          </Loaded>
        </Panel>
        <div className="flex min-w-0 flex-col gap-4">
          <RunningPanel />
          <Panel title={t("devices.title")} flush>
            <Loaded query={devices}>
              {(list) =>
                list.length === 0 ? (
                  <Empty
                    title={t("devices.empty")}
                    hint={t("devices.emptyHint")}
                    action={<LinkButton to="/devices" text={t("devices.add")} />}
                  />
                ) : (
                  <ul>
                    {list.map((device) => (
                      <DeviceRow
                        key={device.id}
                        device={device}
                        deployments={deployments.data ?? []}
                      />
                    ))}
                  </ul>
                )
              }
            </Loaded>
          </Panel>
        </div>
      </div>
    </Page>
  );
}

function LinkButton({ to, text }: { to: string; text: string }) {
  return (
    <Link to={to} className="inline-flex h-8 items-center rounded-md border border-accent bg-accent px-3 font-semibold text-accent-ink">
      {text}
    </Link>
  );
}

function Counters({
  devices,
  cameras,
  deployments,
}: {
  devices: Device[];
  cameras: Camera[];
  deployments: Deployment[];
}) {
  const t = useT();
  const summary = useResultSummary({}, 60).data;
  const last = summary?.at(-2) ?? summary?.at(-1);
  const well = devices.filter((each) => each.state === "ok").length;
  const ill = devices.some((each) => each.state === "dead" || each.state === "silent");
  const seeing = cameras.filter((each) => each.state === "ok").length;
  const running = deployments.filter((each) => standing(each) === "running").length;
  const failed = deployments.some((each) => toneOf(standing(each)) === "bad");
  return (
    <div className="flex flex-wrap gap-2">
      <Figure name={t("site.devicesOk")} value={`${well}/${devices.length}`} tone={ill ? "text-bad" : ""} />
      <Figure
        name={t("site.camerasOk")}
        value={`${seeing}/${cameras.length}`}
        tone={seeing < cameras.length ? "text-warn" : ""}
      />
      <Figure
        name={t("site.deploymentsRunning")}
        value={`${running}/${deployments.length}`}
        tone={failed ? "text-bad" : ""}
      />
      <Figure name={t("site.resultsPerMinute")} value={last ? last.count.toLocaleString(t.language) : "–"} />
    </div>
  );
}

function RunningPanel() {
  const t = useT();
  const running = useRunning();
  const { show } = useOperationsDrawer();
  if (running.length === 0) return null;
  return (
    <Panel title={t("site.running")} flush>
      <ul>
        {running.slice(0, 5).map((operation) => (
          <li key={operation.id} className="border-b border-line/60 last:border-0">
            <button type="button" onClick={() => show(operation.id)} className="w-full px-3 py-2 text-left hover:bg-raised">
              <OperationLine operation={operation} />
            </button>
          </li>
        ))}
      </ul>
      {running.length > 5 && (
        <div className="p-2">
          <Button small onClick={() => show()}>{t("site.allRunning", { count: running.length })}</Button>
        </div>
      )}
    </Panel>
  );
}

function DeviceRow({ device, deployments }: { device: Device; deployments: Deployment[] }) {
  const t = useT();
  const { points } = useLivePoints(device.id, 60, device.state !== "new");
  const last = points.at(-1);
  const mine = deployments.filter((each) => each.device_id === device.id);
  const shown = useMemo(
    () => ({ cpu: points.map((each) => each.cpu), memory: points.map((each) => each.memory) }),
    [points],
  );
  const fresh = device.state === "ok";
  return (
    <li className="border-b border-line/60 px-3 py-2 last:border-0">
      <div className="flex items-center gap-2">
        <Link to="/devices/$id" params={{ id: device.id }} className="truncate font-medium hover:underline">
          {device.name}
        </Link>
        <span className="ml-auto text-xs">
          <State group="device.state" value={device.state} />
        </span>
      </div>
      {device.state === "new" ? (
        <p className="text-xs text-muted">{t("device.notEnrolled")}</p>
      ) : (
        <div className={`grid grid-cols-2 gap-3 ${fresh ? "" : "opacity-45"}`}>
          <Gauge name="CPU" value={percent(last?.cpu)} values={shown.cpu} color="--c-accent" />
          <Gauge name={t("metric.memory")} value={percent(last?.memory)} values={shown.memory} color="--c-info" />
        </div>
      )}
      <p className="mt-0.5 truncate text-2xs text-muted">
        {mine.map((each) => `${each.package_name}:${each.version}`).join(" · ")}
        {!fresh && device.last_seen_at && (
          <>
            {mine.length > 0 && " · "}
            {t("device.lastSeen")} <Ago at={device.last_seen_at} />
          </>
        )}
      </p>
    </li>
  );
}

function Gauge({
  name,
  value,
  values,
  color,
}: {
  name: string;
  value: string;
  values: number[];
  color: string;
}) {
  return (
    <div>
      <div className="flex text-2xs text-muted">
        {name}
        <b className="ml-auto font-semibold text-text tabular-nums">{value}</b>
      </div>
      <Sparkline values={values} color={color} label={`${name} ${value}`} />
    </div>
  );
}

/** Few cameras are shown big: the grid stays about as high as it is wide. */
function gridFor(count: number): { columns: string; rows: number } {
  if (count <= 1) return { columns: "grid-cols-1", rows: 1 };
  if (count <= 2) return { columns: "grid-cols-1 sm:grid-cols-2", rows: 1 };
  if (count <= 4) return { columns: "grid-cols-1 sm:grid-cols-2", rows: 2 };
  if (count <= 6) return { columns: "grid-cols-1 sm:grid-cols-2 lg:grid-cols-3", rows: 2 };
  return { columns: "grid-cols-2 md:grid-cols-3 lg:grid-cols-4 2xl:grid-cols-5", rows: 3 };
}

/** So high that all rows fit a screen: what is above the grid, and each picture's caption, off. */
function pictureHeight(rows: number): string {
  return `max(9rem, calc((100dvh - 12.3rem) / ${rows} - 2.4rem))`;
}

function CameraGrid({ cameras }: { cameras: Camera[] }) {
  const devices = useDevices().data;
  const assignments = useAssignments().data;
  const deployments = useDeployments().data;
  const { columns, rows } = gridFor(cameras.length);
  return (
    <div className={`grid gap-px ${columns}`}>
      {cameras.map((camera) => (
        <CameraTile
          key={camera.id}
          camera={camera}
          maxHeight={pictureHeight(rows)}
          available={devices?.find((each) => each.id === camera.device_id)?.state === "ok"}
          watched={(assignments ?? [])
            .filter((each) => each.camera_id === camera.id)
            .flatMap((each) => deployments?.find((one) => one.id === each.deployment_id) ?? [])}
        />
      ))}
    </div>
  );
}
