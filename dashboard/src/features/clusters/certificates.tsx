/** The certificates of a cluster and when each ends, read on the hosts when asked for. */
import { useMemo, useState } from "react";
import { renewCertificates, useCertificates } from "@/api/clusters";
import type { Certificates, Cluster } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Empty, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago, Clock } from "@/ui/time";

type Row = Certificates["certificates"][number];

export function CertificatesPanel({ cluster }: { cluster: Cluster }) {
  const t = useT();
  const operator = useMay("operator");
  const { show } = useOperationsDrawer();
  const [asked, setAsked] = useState(false);
  const [renewing, setRenewing] = useState(false);
  const query = useCertificates(cluster.id, asked);
  const columns = useMemo<Column<Row>[]>(
    () => [
      { id: "node", name: t("cluster.node"), sort: (row) => row.node_name, cell: (row) => row.node_name },
      {
        id: "name",
        name: t("certificate.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <span className="inline-flex items-center gap-2">
            <code className="font-mono text-xs">{row.name}</code>
            {row.authority && <Chip>{t("certificate.authority")}</Chip>}
          </span>
        ),
      },
      {
        id: "ends",
        name: t("certificate.ends"),
        sort: (row) => row.ends_at,
        cell: (row) => (
          <>
            <Clock at={row.ends_at} full />{" "}
            <span className="text-xs text-muted">
              <Ago at={row.ends_at} />
            </span>
          </>
        ),
      },
    ],
    [t],
  );
  return (
    <Panel
      title={t("certificate.title")}
      flush
      actions={
        <>
          <Button
            small
            busy={query.isFetching}
            onClick={() => (asked ? void query.refetch() : setAsked(true))}
          >
            {t("certificate.read")}
          </Button>
          {operator && (
            <Button small onClick={() => setRenewing(true)}>
              {t("certificate.renew")}
            </Button>
          )}
        </>
      }
    >
      {asked ? (
        <Loaded query={query}>
          {({ certificates, not_reached }) => (
            <>
              {not_reached.map((each) => (
                <div key={each.device_id} role="alert" className="border-b border-line px-3 py-2">
                  <p className="text-bad">{each.detail}</p>
                  {each.remedy && <p className="text-muted">→ {each.remedy}</p>}
                </div>
              ))}
              <Table
                label={t("certificate.title")}
                rows={certificates}
                columns={columns}
                rowKey={(row) => `${row.device_id} ${row.name}`}
                empty={<Empty title={t("certificate.empty")} />}
              />
            </>
          )}
        </Loaded>
      ) : (
        <p className="px-3 py-4 text-muted">{t("certificate.hint")}</p>
      )}
      {renewing && (
        <FormDialog
          title={t("certificate.renewTitle")}
          action={t("certificate.renew")}
          onClose={() => setRenewing(false)}
          submit={async () => show((await renewCertificates(cluster.id)).operation_id)}
        >
          <p>{t("certificate.renewHint")}</p>
        </FormDialog>
      )}
    </Panel>
  );
}
