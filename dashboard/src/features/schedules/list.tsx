import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useScheduleRuns, useSchedules } from "@/api/schedules";
import type { Schedule } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip, State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago, Clock } from "@/ui/time";
import { ScheduleActions } from "./actions";
import { ScheduleDialog } from "./form";
import { Subject } from "./subject";
import { whenText } from "./when";

export function SchedulesPage() {
  const t = useT();
  const operator = useMay("operator");
  const schedules = useSchedules();
  const [adding, setAdding] = useState(false);
  const columns = useMemo<Column<Schedule>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <Link to="/schedules/$id" params={{ id: row.id }} className="font-medium hover:underline">
            {row.name}
          </Link>
        ),
      },
      { id: "action", name: t("schedule.action"), sort: (row) => row.action, cell: (row) => <Subject schedule={row} /> },
      { id: "when", name: t("when.title"), cell: (row) => whenText(t, row) },
      {
        id: "next",
        name: t("schedule.next"),
        sort: (row) => (row.enabled ? row.next_at : null),
        cell: (row) => <NextRun schedule={row} />,
      },
      { id: "last", name: t("schedule.last"), cell: (row) => <LastRun id={row.id} /> },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) => <ScheduleActions schedule={row} small />,
      },
    ],
    [t],
  );
  const add = operator && (
    <Button tone="primary" onClick={() => setAdding(true)}>
      {t("schedules.add")}
    </Button>
  );
  return (
    <Page title={t("schedules.title")} actions={add}>
      <Panel flush>
        <Loaded query={schedules}>
          {(rows) => (
            <Table
              label={t("schedules.title")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("schedules.empty")} hint={t("schedules.emptyHint")} action={add} />}
            />
          )}
        </Loaded>
      </Panel>
      {adding && <ScheduleDialog onClose={() => setAdding(false)} />}
    </Page>
  );
}

export function NextRun({ schedule }: { schedule: Schedule }) {
  const t = useT();
  if (!schedule.enabled) {
    return (
      <div>
        <Chip tone="warn">{t("schedule.paused")}</Chip>
        {schedule.message && <p className="max-w-80 text-xs text-muted">{schedule.message}</p>}
      </div>
    );
  }
  if (schedule.next_at === null) return <span className="text-muted">{t("schedule.never")}</span>;
  return (
    <>
      <Clock at={schedule.next_at} full />{" "}
      <span className="text-xs text-muted">
        <Ago at={schedule.next_at} />
      </span>
    </>
  );
}

function LastRun({ id }: { id: string }) {
  const t = useT();
  const run = useScheduleRuns(id, 1).data?.[0];
  if (!run) return <span className="text-muted">{t("schedule.noRun")}</span>;
  return (
    <>
      <State group="schedule.run" value={run.state} />{" "}
      <span className="text-xs text-muted">
        <Ago at={run.started_at ?? run.due_at} />
      </span>
    </>
  );
}
