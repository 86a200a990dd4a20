/** The nodes: role, state, whether each is there and why not; what can be done with one. */
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { isHeld } from "@/api/clusters";
import { useDevices } from "@/api/queries";
import type { Cluster, ClusterHealth, Member } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Panel } from "@/ui/panel";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { ReaddressDialog, RemoveNodeDialog, ReplaceNodeDialog } from "./changes";
import { Presence } from "./presence";

type Open = { what: "remove" | "replace" | "readdress"; member: Member } | null;

export function MembersPanel({
  cluster,
  health,
}: {
  cluster: Cluster;
  health: ClusterHealth | undefined;
}) {
  const t = useT();
  const operator = useMay("operator");
  const devices = useDevices().data;
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const ready = cluster.state === "ready";
  const members = ready ? cluster.members.filter((each) => isHeld(each) || each.state === "failed") : cluster.members;
  const columns = useMemo<Column<Member>[]>(() => {
    const nodeOf = (member: Member) =>
      health?.nodes.find((each) => each.device_id === member.device_id);
    return [
      {
        id: "node",
        name: t("cluster.node"),
        sort: (row) => row.node_name,
        cell: (row) => {
          const device = devices?.find((each) => each.id === row.device_id)?.name;
          return (
            <Link to="/devices/$id" params={{ id: row.device_id }} className="hover:underline">
              <span className="font-medium">{row.node_name}</span>
              {device !== row.node_name && (
                <span className="block text-xs text-muted">{device ?? row.device_id}</span>
              )}
            </Link>
          );
        },
      },
      {
        id: "role",
        name: t("field.role"),
        sort: (row) => row.role,
        cell: (row) => t.code("cluster.role", row.role),
      },
      {
        id: "state",
        name: t("field.state"),
        sort: (row) => row.state,
        cell: (row) => (
          <div>
            <State group="cluster.member" value={row.state} />
            {row.message && <p className="max-w-80 text-xs text-muted">{row.message}</p>}
          </div>
        ),
      },
      {
        id: "presence",
        name: t("cluster.presence"),
        sort: (row) => nodeOf(row)?.presence,
        cell: (row) => <Presence node={nodeOf(row)} />,
      },
      {
        id: "since",
        name: t("cluster.since"),
        cell: (row) => <Ago at={nodeOf(row)?.since ?? row.left_at ?? row.joined_at} />,
      },
      {
        id: "address",
        name: t("field.address"),
        cell: (row) => {
          const found = nodeOf(row)?.found_address;
          return (
            <span className="font-mono text-xs">
              {row.address || "–"}
              {found && <span className="block text-warn">→ {found}</span>}
            </span>
          );
        },
      },
      {
        id: "version",
        name: t("cluster.kubelet"),
        cell: (row) => (
          <span className="font-mono text-xs">{nodeOf(row)?.kubelet_version || "–"}</span>
        ),
      },
      {
        id: "agent",
        name: t("agent.title"),
        cell: (row) => {
          const node = nodeOf(row);
          return node ? t(node.agent_connected ? "cluster.agentOn" : "cluster.agentOff") : "–";
        },
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          operator &&
          ready &&
          row.state === "ready" && (
            <span className="inline-flex gap-1.5">
              <Button small onClick={() => setOpen({ what: "replace", member: row })}>
                {t("cluster.replace")}
              </Button>
              <Button small onClick={() => setOpen({ what: "readdress", member: row })}>
                {t("cluster.readdress")}
              </Button>
              <Button small tone="ghost" onClick={() => setOpen({ what: "remove", member: row })}>
                {t("cluster.remove")}
              </Button>
            </span>
          ),
      },
    ];
  }, [t, health, devices, operator, ready]);
  return (
    <Panel title={t("cluster.members")} flush>
      <Table
        label={t("cluster.members")}
        rows={members}
        columns={columns}
        rowKey={(row) => row.device_id}
        empty={<Empty title={t("cluster.noMember")} />}
      />
      {open?.what === "remove" && <RemoveNodeDialog cluster={cluster} member={open.member} onClose={close} />}
      {open?.what === "replace" && <ReplaceNodeDialog cluster={cluster} member={open.member} onClose={close} />}
      {open?.what === "readdress" && <ReaddressDialog cluster={cluster} member={open.member} onClose={close} />}
    </Panel>
  );
}
