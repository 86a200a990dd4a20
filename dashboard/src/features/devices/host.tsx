/** The device as a host: its cluster, its engine, why it is silent, and its agent's coming and going. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { clusterOf, useClusterHealth, useClusters } from "@/api/clusters";
import { useAgent } from "@/api/queries";
import { installAgent, removeAgent, updateAgent } from "@/api/schedules";
import type { Device } from "@/api/types";
import { Presence } from "@/features/clusters/presence";
import { useOperationsDrawer } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Facts, Panel } from "@/ui/panel";
import { State } from "@/ui/status";

type Change = "install" | "update" | "remove";
const CALLS = { install: installAgent, update: updateAgent, remove: removeAgent } as const;

export function HostPanel({ device }: { device: Device }) {
  const t = useT();
  const operator = useMay("operator");
  const clusters = useClusters().data;
  const held = clusterOf(clusters, device.id);
  const health = useClusterHealth(held?.cluster.id ?? "", held?.cluster.state === "ready").data;
  const node = health?.nodes.find((each) => each.device_id === device.id);
  const agent = useAgent(device.id).data;
  const [open, setOpen] = useState<Change | null>(null);
  const changes: Change[] = device.enrolled ? ["update", "remove"] : ["install"];
  const engine = held ? "kubernetes" : device.enrolled ? "docker-agent" : device.address && "docker-ssh";
  return (
    <Panel title={t("host.title")}>
      <div className="flex flex-col gap-3">
        <Facts
          rows={[
            [
              t("host.cluster"),
              held ? (
                <span key="c">
                  <Link
                    to="/clusters/$id"
                    params={{ id: held.cluster.id }}
                    className="text-accent hover:underline"
                  >
                    {held.cluster.name}
                  </Link>{" "}
                  <span className="text-muted">
                    {t.code("cluster.role", held.member.role)} · {held.member.node_name}
                  </span>
                </span>
              ) : (
                t("field.none")
              ),
            ],
            ...(held
              ? [[t("cluster.members"), <State key="m" group="cluster.member" value={held.member.state} />] as Row]
              : []),
            ...(node ? [[t("cluster.presence"), <Presence key="p" node={node} />] as Row] : []),
            ...(!node && agent && (agent.presence === "silent" || agent.presence === "dead")
              ? [[t("host.why"), t.code("presence.reason", agent.presence_reason)] as Row]
              : []),
            [t("host.engine"), t.code("host.engine", engine)],
          ]}
        />
        {held && <p className="text-xs text-muted">{t("host.agentByCluster")}</p>}
        {operator && !held && (
          <div className="flex flex-wrap gap-1.5">
            {changes.map((each) => (
              <Button key={each} small onClick={() => setOpen(each)}>
                {t.code("host.agent", each)}
              </Button>
            ))}
          </div>
        )}
      </div>
      {open && <AgentDialog device={device} change={open} onClose={() => setOpen(null)} />}
    </Panel>
  );
}

type Row = [React.ReactNode, React.ReactNode];

function AgentDialog({
  device,
  change,
  onClose,
}: {
  device: Device;
  change: Change;
  onClose: () => void;
}) {
  const t = useT();
  const { show } = useOperationsDrawer();
  return (
    <FormDialog
      title={`${t.code("host.agent", change)} · ${device.name}`}
      action={t.code("host.agent", change)}
      tone={change === "remove" ? "danger" : "primary"}
      onClose={onClose}
      submit={async () => show((await CALLS[change](device.id)).operation_id)}
    >
      <p>{t.code("host.agentHint", change)}</p>
    </FormDialog>
  );
}
