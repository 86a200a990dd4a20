import { useMemo, useState } from "react";
import { useAudit } from "@/api/queries";
import type { AuditEntry } from "@/api/types";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip } from "@/ui/status";
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
      { id: "actor", name: t("audit.actor"), cell: (row) => <Actor entry={row} /> },
      { id: "action", name: t("audit.action"), cell: (row) => <code className="font-mono text-xs">{row.action}</code> },
      { id: "subject", name: t("audit.subject"), cell: (row) => <code className="font-mono text-xs">{row.subject}</code> },
      {
        id: "details",
        name: t("audit.details"),
        cell: (row) => (
          <code className="font-mono text-xs text-muted">
            {Object.keys(row.details).length > 0 ? JSON.stringify(row.details) : ""}
          </code>
        ),
      },
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

function Actor({ entry }: { entry: AuditEntry }) {
  const t = useT();
  return (
    <span className="inline-flex items-center gap-1.5" title={entry.by_id}>
      {entry.by_name || entry.by_id}
      {entry.by_kind !== "user" && <Chip>{t.code("audit.kind", entry.by_kind)}</Chip>}
    </span>
  );
}
