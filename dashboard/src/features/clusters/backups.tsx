/** Backups of a cluster: make one, bring one back, take one along, delete. They outlive it. */
import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { backUpCluster, clusterOf, deleteBackup, restoreCluster, useBackups, useClusters } from "@/api/clusters";
import { useDevices } from "@/api/queries";
import type { Backup, Cluster } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { bytes } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { ConfirmByName } from "@/ui/confirm";
import { FormDialog } from "@/ui/dialog";
import { Select } from "@/ui/field";
import { Empty, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { type Column, Table } from "@/ui/table";
import { Ago, Clock } from "@/ui/time";
import { tell, tellError } from "@/ui/toast";
import { AllowedFields, hinders, NOTHING } from "./allowed";

type Open = { what: "restore" | "delete"; backup: Backup } | null;

export function BackupsPanel({ cluster }: { cluster: Cluster }) {
  const t = useT();
  const queries = useQueryClient();
  const operator = useMay("operator");
  const admin = useMay("admin");
  const backups = useBackups(cluster.id);
  const { show } = useOperationsDrawer();
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const ready = cluster.state === "ready";
  const make = async () => {
    try {
      show((await backUpCluster(cluster.id)).operation_id);
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  const columns = useMemo<Column<Backup>[]>(
    () => [
      {
        id: "at",
        name: t("backup.at"),
        sort: (row) => row.created_at,
        cell: (row) => (
          <>
            <Clock at={row.created_at} full />{" "}
            <span className="text-xs text-muted">
              <Ago at={row.created_at} />
            </span>
          </>
        ),
      },
      { id: "occasion", name: t("backup.occasion"), cell: (row) => t.code("backup.occasion", row.occasion) },
      {
        id: "size",
        name: t("package.size"),
        sort: (row) => row.size_bytes,
        cell: (row) => bytes(row.size_bytes),
      },
      {
        id: "kubernetes",
        name: t("cluster.kubernetes"),
        cell: (row) => <span className="font-mono text-xs">{row.kubernetes_version}</span>,
      },
      { id: "keys", name: t("backup.keys"), cell: (row) => row.total_keys.toLocaleString(t.language) },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          admin && (
            <span className="inline-flex gap-1.5">
              {ready && (
                <Button small onClick={() => setOpen({ what: "restore", backup: row })}>
                  {t("backup.restore")}
                </Button>
              )}
              <a
                href={`/api/v1/clusters/${cluster.id}/backups/${row.id}/content`}
                download
                className="inline-flex h-7 items-center rounded-md px-2 text-xs text-muted hover:bg-raised hover:text-text"
              >
                {t("backup.download")}
              </a>
              <Button small tone="ghost" onClick={() => setOpen({ what: "delete", backup: row })}>
                {t("action.delete")}
              </Button>
            </span>
          ),
      },
    ],
    [t, admin, ready, cluster.id],
  );
  return (
    <Panel
      title={t("backup.title")}
      flush
      actions={
        operator && ready && <Button small onClick={() => void make()}>{t("backup.make")}</Button>
      }
    >
      <Loaded query={backups}>
        {(rows) => (
          <Table
            label={t("backup.title")}
            rows={rows}
            columns={columns}
            rowKey={(row) => row.id}
            empty={<Empty title={t("backup.empty")} hint={t("backup.emptyHint")} />}
          />
        )}
      </Loaded>
      {open?.what === "restore" && (
        <RestoreDialog cluster={cluster} backup={open.backup} onClose={close} />
      )}
      {open?.what === "delete" && (
        <FormDialog
          title={t("backup.deleteTitle")}
          action={t("action.delete")}
          tone="danger"
          onClose={close}
          submit={async () => {
            await deleteBackup(cluster.id, open.backup.id);
            await queries.invalidateQueries({ queryKey: ["cluster-backups"] });
            tell(t("done.deleted"));
          }}
        >
          <p>
            <Clock at={open.backup.created_at} full />
          </p>
          <p>{t("backup.deleteHint")}</p>
        </FormDialog>
      )}
    </Panel>
  );
}

function RestoreDialog({
  cluster,
  backup,
  onClose,
}: {
  cluster: Cluster;
  backup: Backup;
  onClose: () => void;
}) {
  const t = useT();
  const { show } = useOperationsDrawer();
  const clusters = useClusters().data;
  const devices = useDevices().data ?? [];
  const free = devices.filter((each) => clusterOf(clusters, each.id) === null);
  const [onto, setOnto] = useState("");
  const [allowed, setAllowed] = useState(NOTHING);
  const asked = free.filter((each) => each.id === onto);
  return (
    <ConfirmByName
      title={t("backup.restoreTitle", { name: cluster.name })}
      name={cluster.name}
      action={t("backup.restore")}
      onClose={onClose}
      disabled={hinders(allowed)}
      wide
      submit={async () =>
        show((await restoreCluster(cluster.id, backup.id, onto, allowed.consent)).operation_id)
      }
    >
      <p>
        <Clock at={backup.created_at} full />
      </p>
      <p>{t("backup.restoreHint")}</p>
      <Select
        label={t("backup.onto")}
        hint={t("backup.ontoHint")}
        value={onto}
        onPick={(next) => {
          setOnto(next);
          setAllowed(NOTHING);
        }}
        options={[
          ["", t("backup.ontoSame")],
          ["reached", t("backup.ontoReached")],
          ...free.map((each) => [each.id, each.name] as const),
        ]}
      />
      {asked.length > 0 && (
        <AllowedFields
          key={onto}
          cluster={cluster}
          asked={asked}
          role="control_plane"
          allowed={allowed}
          onChange={setAllowed}
        />
      )}
    </ConfirmByName>
  );
}
