import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useAssignments, useCameras, useDeployments, useDevices } from "@/api/queries";
import type { Camera } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { CameraDialog } from "./dialogs";

export function CamerasPage() {
  const t = useT();
  const cameras = useCameras();
  const devices = useDevices().data;
  const assignments = useAssignments().data;
  const deployments = useDeployments().data;
  const operator = useMay("operator");
  const [adding, setAdding] = useState(false);
  const columns = useMemo<Column<Camera>[]>(() => {
    const deviceName = (id: string | null | undefined) =>
      devices?.find((each) => each.id === id)?.name ?? "–";
    const watched = (camera: Camera) =>
      (assignments ?? [])
        .filter((each) => each.camera_id === camera.id)
        .flatMap((each) => deployments?.find((one) => one.id === each.deployment_id) ?? []);
    return [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <Link to="/cameras/$id" params={{ id: row.id }} className="font-medium hover:underline">
            {row.name}
          </Link>
        ),
      },
      {
        id: "state",
        name: t("field.state"),
        sort: (row) => row.state,
        cell: (row) => <State group="camera.state" value={row.state} />,
      },
      {
        id: "device",
        name: t("camera.homeDevice"),
        sort: (row) => deviceName(row.device_id),
        cell: (row) => deviceName(row.device_id),
      },
      {
        id: "ai",
        name: t("camera.analysedBy"),
        cell: (row) =>
          watched(row)
            .map((each) => `${each.package_name}:${each.version} @ ${each.device_name}`)
            .join(", ") || <span className="text-muted">{t("camera.unwatched")}</span>,
      },
      {
        id: "url",
        name: t("camera.url"),
        cell: (row) => <span className="font-mono text-xs text-muted">{row.url}</span>,
      },
    ];
  }, [t, devices, assignments, deployments]);
  const add = operator && (
    <Button tone="primary" onClick={() => setAdding(true)}>
      {t("cameras.add")}
    </Button>
  );
  return (
    <Page title={t("cameras.title")} actions={add}>
      <Panel flush>
        <Loaded query={cameras}>
          {(rows) => (
            <Table
              label={t("cameras.title")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("cameras.empty")} hint={t("cameras.emptyHint")} action={add} />}
            />
          )}
        </Loaded>
      </Panel>
      {adding && <CameraDialog onClose={() => setAdding(false)} />}
    </Page>
  );
}
