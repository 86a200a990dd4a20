import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useCameras, useDeployments, useDevices } from "@/api/queries";
import type { Device } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { DeviceDialog, EnrolDialog } from "./dialogs";
import { GroupsPanel } from "./groups";

export function DevicesPage() {
  const t = useT();
  const devices = useDevices();
  const cameras = useCameras().data;
  const deployments = useDeployments().data;
  const operator = useMay("operator");
  const [adding, setAdding] = useState(false);
  const [enrolling, setEnrolling] = useState<Device | null>(null);
  const columns = useMemo<Column<Device>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <Link to="/devices/$id" params={{ id: row.id }} className="font-medium hover:underline">
            {row.name}
          </Link>
        ),
      },
      {
        id: "state",
        name: t("field.state"),
        sort: (row) => row.state,
        cell: (row) => <State group="device.state" value={row.state} />,
      },
      {
        id: "role",
        name: t("field.role"),
        sort: (row) => row.role,
        cell: (row) => t.code("device.role", row.role),
      },
      {
        id: "cameras",
        name: t("cameras.title"),
        sort: (row) => cameras?.filter((each) => each.device_id === row.id).length,
        cell: (row) => cameras?.filter((each) => each.device_id === row.id).length ?? "–",
      },
      {
        id: "deployments",
        name: t("deployments.title"),
        cell: (row) =>
          deployments
            ?.filter((each) => each.device_id === row.id)
            .map((each) => `${each.package_name}:${each.version}`)
            .join(", "),
      },
      {
        id: "address",
        name: t("field.address"),
        sort: (row) => row.address,
        cell: (row) => <span className="font-mono text-xs">{row.address ?? "–"}</span>,
      },
      {
        id: "seen",
        name: t("device.lastSeen"),
        sort: (row) => row.last_seen_at,
        cell: (row) => (row.last_seen_at ? <Ago at={row.last_seen_at} /> : "–"),
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          row.state === "new" &&
          operator && (
            <Button small onClick={() => setEnrolling(row)}>
              {t("device.enrol")}
            </Button>
          ),
      },
    ],
    [t, cameras, deployments, operator],
  );
  const add = operator && (
    <Button tone="primary" onClick={() => setAdding(true)}>
      {t("devices.add")}
    </Button>
  );
  return (
    <Page title={t("devices.title")} actions={add}>
      <Panel flush>
        <Loaded query={devices}>
          {(rows) => (
            <Table
              label={t("devices.title")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("devices.empty")} hint={t("devices.emptyHint")} action={add} />}
            />
          )}
        </Loaded>
      </Panel>
      <GroupsPanel />
      {adding && <DeviceDialog onClose={() => setAdding(false)} onDone={setEnrolling} />}
      {enrolling && <EnrolDialog device={enrolling} onClose={() => setEnrolling(null)} />}
    </Page>
  );
}
