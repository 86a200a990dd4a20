/** Deployments with what is wanted and what is; the same table on every page that lists them. */
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { removeDeployment, rollBack } from "@/api/actions";
import type { Deployment } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { standing } from "@/format/deployment";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { DeploymentLogDialog } from "./logs";

type Open = { what: "logs" | "rollback" | "remove"; deployment: Deployment } | null;

export function DeploymentTable({
  deployments,
  without,
  empty,
}: {
  deployments: Deployment[];
  without?: ("device" | "package")[];
  empty: ReactNode;
}) {
  const t = useT();
  const operator = useMay("operator");
  const { show } = useOperationsDrawer();
  const [open, setOpen] = useState<Open>(null);
  const hidden = without?.join() ?? "";
  const columns = useMemo<Column<Deployment>[]>(() => {
    const all: Column<Deployment>[] = [
      {
        id: "package",
        name: t("field.package"),
        sort: (row) => row.package_name,
        cell: (row) => (
          <Link to="/packages/$id" params={{ id: row.package_id }} className="font-medium hover:underline">
            {row.package_name}
          </Link>
        ),
      },
      {
        id: "version",
        name: t("field.version"),
        sort: (row) => row.version,
        cell: (row) => <span className="font-mono">{row.version}</span>,
      },
      {
        id: "device",
        name: t("field.device"),
        sort: (row) => row.device_name,
        cell: (row) => (
          <Link to="/devices/$id" params={{ id: row.device_id }} className="hover:underline">
            {row.device_name}
          </Link>
        ),
      },
      {
        id: "observed",
        name: t("deployment.observed"),
        sort: (row) => standing(row),
        cell: (row) => (
          <div>
            <State group="deployment.state" value={standing(row)} />
            {row.message && <p className="max-w-80 text-xs text-muted">{row.message}</p>}
          </div>
        ),
      },
      {
        id: "desired",
        name: t("deployment.desired"),
        cell: (row) => <span className="text-muted">{t.code("deployment.desired", row.desired_state)}</span>,
      },
      {
        id: "restarts",
        name: t("deployment.restarts"),
        sort: (row) => row.restarts,
        cell: (row) => <span className={row.restarts > 0 ? "text-warn" : ""}>{row.restarts}</span>,
      },
      {
        id: "results",
        name: t("results.title"),
        sort: (row) => row.results,
        cell: (row) => row.results.toLocaleString(t.language),
      },
      {
        id: "since",
        name: t("deployment.since"),
        sort: (row) => row.started_at,
        cell: (row) => <Ago at={row.started_at ?? row.created_at} />,
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) => (
          <span className="inline-flex gap-1.5">
            <Button small onClick={() => setOpen({ what: "logs", deployment: row })}>
              {t("log.title")}
            </Button>
            {operator && row.previous_version && (
              <Button small onClick={() => setOpen({ what: "rollback", deployment: row })}>
                {t("deployment.rollback")}
              </Button>
            )}
            {operator && (
              <Button small tone="ghost" onClick={() => setOpen({ what: "remove", deployment: row })}>
                {t("deployment.remove")}
              </Button>
            )}
          </span>
        ),
      },
    ];
    return all.filter((column) => !hidden.split(",").includes(column.id));
  }, [t, operator, hidden]);
  const name = open ? `${open.deployment.package_name}:${open.deployment.version}` : "";
  const close = () => setOpen(null);
  return (
    <>
      <Table
        label={t("deployments.title")}
        rows={deployments}
        columns={columns}
        rowKey={(row) => row.id}
        empty={empty}
      />
      {open?.what === "logs" && (
        <DeploymentLogDialog id={open.deployment.id} name={name} onClose={close} />
      )}
      {(open?.what === "rollback" || open?.what === "remove") && (
        <FormDialog
          title={t(open.what === "rollback" ? "deployment.rollbackTitle" : "deployment.removeTitle", { name })}
          action={t(open.what === "rollback" ? "deployment.rollback" : "deployment.remove")}
          tone="danger"
          onClose={close}
          submit={async () => {
            const call = open.what === "rollback" ? rollBack : removeDeployment;
            const { operation_id } = await call(open.deployment.id);
            show(operation_id);
          }}
        >
          <p>
            {open.what === "rollback"
              ? t("deployment.rollbackHint", {
                  device: open.deployment.device_name,
                  version: open.deployment.previous_version ?? "",
                })
              : t("deployment.removeHint", { device: open.deployment.device_name })}
          </p>
        </FormDialog>
      )}
    </>
  );
}
