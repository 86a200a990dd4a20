import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useClusterHealth, useClusters } from "@/api/clusters";
import type { Cluster } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Check } from "@/ui/field";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { FormClusterDialog } from "./form";

export function ClustersPage() {
  const t = useT();
  const operator = useMay("operator");
  const { show } = useOperationsDrawer();
  const [gone, setGone] = useState(false);
  const [forming, setForming] = useState(false);
  const clusters = useClusters(gone);
  const columns = useMemo<Column<Cluster>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <Link to="/clusters/$id" params={{ id: row.id }} className="font-medium hover:underline">
            {row.name}
          </Link>
        ),
      },
      {
        id: "state",
        name: t("field.state"),
        sort: (row) => row.state,
        cell: (row) => (
          <div>
            <State group="cluster.state" value={row.state} />
            {row.message && <p className="max-w-96 text-xs text-muted">{row.message}</p>}
          </div>
        ),
      },
      { id: "nodes", name: t("cluster.nodesReady"), cell: (row) => <NodesReady cluster={row} /> },
      { id: "api", name: t("cluster.api"), cell: (row) => <ApiState cluster={row} /> },
      {
        id: "kubernetes",
        name: t("cluster.kubernetes"),
        sort: (row) => row.kubernetes_version,
        cell: (row) => <span className="font-mono text-xs">{row.kubernetes_version || "–"}</span>,
      },
      {
        id: "operation",
        name: t("cluster.operation"),
        cell: (row) =>
          row.active_operation_id === null ? (
            "–"
          ) : (
            <Button small onClick={() => show(row.active_operation_id ?? undefined)}>
              {t("cluster.atWork")}
            </Button>
          ),
      },
      {
        id: "created",
        name: t("cluster.createdAt"),
        sort: (row) => row.created_at,
        cell: (row) => <Ago at={row.created_at} />,
      },
    ],
    [t, show],
  );
  const form = operator && (
    <Button tone="primary" onClick={() => setForming(true)}>
      {t("clusters.form")}
    </Button>
  );
  return (
    <Page title={t("clusters.title")} actions={form}>
      <Panel
        title={t("clusters.title")}
        flush
        actions={
          <Check
            label={t("clusters.showGone")}
            checked={gone}
            onChange={(event) => setGone(event.target.checked)}
          />
        }
      >
        <Loaded query={clusters}>
          {(rows) => (
            <Table
              label={t("clusters.title")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("clusters.empty")} hint={t("clusters.emptyHint")} action={form} />}
            />
          )}
        </Loaded>
      </Panel>
      {forming && <FormClusterDialog onClose={() => setForming(false)} />}
    </Page>
  );
}

function NodesReady({ cluster }: { cluster: Cluster }) {
  const health = useClusterHealth(cluster.id, cluster.state === "ready").data;
  if (!health || cluster.state !== "ready") return "–";
  const ready = health.nodes.filter((node) => node.presence === "ok" && node.ready !== false).length;
  return (
    <span className={ready < health.nodes.length ? "text-warn tabular-nums" : "tabular-nums"}>
      {ready}/{health.nodes.length}
    </span>
  );
}

function ApiState({ cluster }: { cluster: Cluster }) {
  const health = useClusterHealth(cluster.id, cluster.state === "ready").data;
  if (!health || cluster.state !== "ready") return "–";
  return <State group="cluster.api" value={health.api} />;
}
