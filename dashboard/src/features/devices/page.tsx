/** One device: what it does each second, with its deployments drawn where they began. */
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { deleteDevice, revokeDevice } from "@/api/actions";
import { useAssignments, useCameras, useDeployments, useDevices } from "@/api/queries";
import type { Assignment, Device } from "@/api/types";
import { AssignmentTable } from "@/features/cameras/assignments";
import { DeploymentTable } from "@/features/deployments/table";
import { DeployDialog } from "@/features/packages/deploy";
import { gpsText } from "@/format/gps";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { RemoveDialog } from "@/ui/remove";
import { State } from "@/ui/status";
import { Ago, Clock } from "@/ui/time";
import { tell } from "@/ui/toast";
import { AgentPanel } from "./agent";
import { DeviceCharts } from "./charts";
import { DeviceDialog, EnrolDialog } from "./dialogs";
import { HostPanel } from "./host";
import { MaintenancePanel } from "./maintenance";

type Open = "edit" | "enrol" | "delete" | "revoke" | "deploy" | null;
const NONE: Assignment[] = [];

export function DevicePage() {
  const t = useT();
  const { id } = useParams({ from: "/devices/$id" });
  const devices = useDevices();
  return (
    <Loaded query={devices}>
      {(list) => {
        const device = list.find((each) => each.id === id);
        return device ? (
          <Content device={device} />
        ) : (
          <Empty title={t("device.gone")} hint={t("device.goneHint")} />
        );
      }}
    </Loaded>
  );
}

function Content({ device }: { device: Device }) {
  const t = useT();
  const operator = useMay("operator");
  const admin = useMay("admin");
  const deployments = useDeployments();
  const cameras = useCameras().data;
  const assignments = useAssignments().data ?? NONE;
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const mine = useMemo(
    () => (deployments.data ?? []).filter((each) => each.device_id === device.id),
    [deployments.data, device.id],
  );
  const handed = useMemo(
    () => assignments.filter((each) => mine.some((one) => one.id === each.deployment_id)),
    [assignments, mine],
  );
  const home = (cameras ?? []).filter((each) => each.device_id === device.id);
  return (
    <Page
      above={<Link to="/devices">{t("devices.title")}</Link>}
      title={
        <>
          {device.name}
          <span className="text-base font-normal">
            <State group="device.state" value={device.state} />
          </span>
        </>
      }
      actions={
        operator && (
          <>
            <Button tone="primary" onClick={() => setOpen("deploy")}>
              {t("deploy.title")}
            </Button>
            <Button onClick={() => setOpen("enrol")}>{t("device.enrol")}</Button>
            <Button onClick={() => setOpen("edit")}>{t("action.edit")}</Button>
            {admin && device.state !== "new" && (
              <Button onClick={() => setOpen("revoke")}>{t("device.revoke")}</Button>
            )}
            <Button tone="danger" onClick={() => setOpen("delete")}>
              {t("action.delete")}
            </Button>
          </>
        )
      }
    >
      {device.state === "new" ? (
        <Panel>
          <Empty
            title={t("device.notEnrolled")}
            hint={t("device.notEnrolledHint")}
            action={
              operator && (
                <Button tone="primary" onClick={() => setOpen("enrol")}>
                  {t("device.enrol")}
                </Button>
              )
            }
          />
        </Panel>
      ) : (
        <DeviceCharts device_id={device.id} />
      )}
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_22rem]">
        <div className="flex min-w-0 flex-col gap-4">
          <Panel title={t("deployments.title")} flush>
            <Loaded query={deployments}>
              {() => (
                <DeploymentTable
                  deployments={mine}
                  without={["device"]}
                  empty={<Empty title={t("device.noDeployment")} hint={t("device.noDeploymentHint")} />}
                />
              )}
            </Loaded>
          </Panel>
          <Panel title={t("assignments.title")} flush>
            <AssignmentTable
              assignments={handed}
              without="device"
              empty={<Empty title={t("assignments.empty")} hint={t("assignments.emptyDevice")} />}
            />
          </Panel>
        </div>
        <div className="flex min-w-0 flex-col gap-4">
        <HostPanel device={device} />
        {device.state !== "new" && <AgentPanel device_id={device.id} />}
        <MaintenancePanel device={device} />
        <Panel title={t("device.facts")}>
          <Facts
            rows={[
              [t("field.role"), t.code("device.role", device.role)],
              [t("field.address"), device.seen_address ?? device.address ?? "–"],
              [t("device.hostName"), device.host_name ?? "–"],
              [t("device.platform"), device.platform ?? "–"],
              [t("device.agentVersion"), device.agent_version ?? "–"],
              [t("device.lastSeen"), device.last_seen_at ? <Ago at={device.last_seen_at} /> : "–"],
              [t("field.postalAddress"), device.postal_address || "–"],
              [t("field.gps"), gpsText(device.gps) || "–"],
              [
                t("device.ssh"),
                [
                  device.ssh_user ?? "–",
                  device.has_ssh_password && t("device.sshPassword"),
                  device.has_ssh_key && t("device.sshKey"),
                ]
                  .filter(Boolean)
                  .join(" · "),
              ],
              [
                t("device.ownCameras"),
                home.length === 0
                  ? "–"
                  : home.map((each) => (
                      <Link
                        key={each.id}
                        to="/cameras/$id"
                        params={{ id: each.id }}
                        className="mr-2 text-accent hover:underline"
                      >
                        {each.name}
                      </Link>
                    )),
              ],
              [t("field.description"), device.description || "–"],
              [t("field.createdAt"), <Clock key="c" at={device.created_at} full />],
              ["ID", <code key="i" className="font-mono text-xs">{device.id}</code>],
            ]}
          />
        </Panel>
        </div>
      </div>
      {open === "edit" && <DeviceDialog device={device} onClose={close} />}
      {open === "enrol" && <EnrolDialog device={device} onClose={close} />}
      {open === "deploy" && <DeployDialog device_id={device.id} onClose={close} />}
      {(open === "delete" || open === "revoke") && (
        <EndDialog device={device} what={open} onClose={close} />
      )}
    </Page>
  );
}

function EndDialog({
  device,
  what,
  onClose,
}: {
  device: Device;
  what: "delete" | "revoke";
  onClose: () => void;
}) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const name = device.name;
  const done = async (text: string) => {
    await queries.invalidateQueries({ queryKey: ["devices"] });
    tell(text);
  };
  if (what === "delete") {
    return (
      <RemoveDialog
        title={t("device.deleteTitle", { name })}
        hint={t("device.deleteHint")}
        forceLabel={t("device.force")}
        forceHint={t("device.forceHint")}
        onClose={onClose}
        remove={async (force) => {
          await deleteDevice(device.id, force);
          await navigate({ to: "/devices" });
          await done(t("done.deleted"));
        }}
      />
    );
  }
  return (
    <FormDialog
      title={t("device.revokeTitle", { name })}
      action={t("device.revoke")}
      tone="danger"
      onClose={onClose}
      submit={async () => {
        await revokeDevice(device.id);
        await done(t("done.revoked"));
      }}
    >
      <p>{t("device.revokeHint")}</p>
    </FormDialog>
  );
}
