import { useMemo, useState } from "react";
import { useAudit } from "@/api/queries";
import type { AuditEntry } from "@/api/types";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Clock } from "@/ui/time";

export function AuditPage() {
  const t = useT();
  const [cursors, setCursors] = useState<string[]>([]);
  const query = useAudit(cursors.at(-1) ?? null);
  const next = query.data?.next_cursor;
  const columns = useMemo<Column<AuditEntry>[]>(
    () => [
      { id: "at", name: t("audit.at"), className: "whitespace-nowrap", cell: (row) => <Clock at={row.at} full /> },
      { id: "actor", name: t("audit.actor"), cell: (row) => row.actor },
      { id: "action", name: t("audit.action"), cell: (row) => <code className="font-mono text-xs">{row.action}</code> },
      { id: "subject", name: t("audit.subject"), cell: (row) => <code className="font-mono text-xs">{row.subject}</code> },
      { id: "outcome", name: t("audit.outcome"), cell: (row) => <State group="audit.outcome" value={row.outcome} /> },
    ],
    [t],
  );
  return (
    <Page
      title={t("nav.audit")}
      actions={
        <>
          <Button small disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>
            {t("action.newer")}
          </Button>
          <Button small disabled={!next} onClick={() => next && setCursors([...cursors, next])}>
            {t("action.older")}
          </Button>
        </>
      }
    >
      <Panel flush>
        <Loaded query={query}>
          {(page) => (
            <Table
              label={t("nav.audit")}
              rows={page.items}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("audit.empty")} />}
            />
          )}
        </Loaded>
      </Panel>
    </Page>
  );
}
