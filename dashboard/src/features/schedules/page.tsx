/** One schedule with its runs: when each was due, what it began, and what went wrong. */
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useDevices } from "@/api/queries";
import { useScheduleRuns, useSchedules } from "@/api/schedules";
import type { Schedule, ScheduleRun } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { span } from "@/format/time";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { Clock, useNow } from "@/ui/time";
import { ScheduleActions } from "./actions";
import { NextRun } from "./list";
import { Subject } from "./subject";
import { whenText } from "./when";

const RUNS = 100;

export function SchedulePage() {
  const t = useT();
  const { id } = useParams({ from: "/schedules/$id" });
  return (
    <Loaded query={useSchedules()}>
      {(list) => {
        const schedule = list.find((each) => each.id === id);
        return schedule ? (
          <Content schedule={schedule} />
        ) : (
          <Empty title={t("schedule.gone")} hint={t("schedule.goneHint")} />
        );
      }}
    </Loaded>
  );
}

function Content({ schedule }: { schedule: Schedule }) {
  const t = useT();
  const navigate = useNavigate();
  const runs = useScheduleRuns(schedule.id, RUNS);
  return (
    <Page
      above={<Link to="/schedules">{t("schedules.title")}</Link>}
      title={schedule.name}
      actions={
        <ScheduleActions schedule={schedule} onDeleted={() => void navigate({ to: "/schedules" })} />
      }
    >
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_22rem]">
        <Panel title={t("schedule.runs")} flush>
          <Loaded query={runs}>
            {(rows) =>
              rows.length === 0 ? (
                <Empty title={t("schedule.noRun")} hint={t("schedule.noRunHint")} />
              ) : (
                <ul aria-label={t("schedule.runs")}>
                  {rows.map((run) => (
                    <RunLine key={run.id} run={run} />
                  ))}
                </ul>
              )
            }
          </Loaded>
        </Panel>
        <Panel title={t("device.facts")}>
          <Facts
            rows={[
              [t("schedule.action"), <Subject key="s" schedule={schedule} />],
              [t("when.title"), whenText(t, schedule)],
              [t("schedule.next"), <NextRun key="n" schedule={schedule} />],
              [t("settings.timezone"), schedule.timezone],
              [t("cluster.createdBy"), schedule.created_by],
              [t("cluster.createdAt"), <Clock key="c" at={schedule.created_at} full />],
              ["ID", <code key="i" className="font-mono text-xs">{schedule.id}</code>],
            ]}
          />
        </Panel>
      </div>
    </Page>
  );
}

function RunLine({ run }: { run: ScheduleRun }) {
  const t = useT();
  const now = useNow();
  const { show } = useOperationsDrawer();
  const devices = useDevices().data;
  const named = (ids: string[]) =>
    ids.map((id) => devices?.find((each) => each.id === id)?.name ?? id).join(", ");
  return (
    <li className="flex flex-col gap-1 border-b border-line/60 px-3 py-2 last:border-0">
      <div className="flex flex-wrap items-center gap-3">
        <State group="schedule.run" value={run.state} />
        <Clock at={run.due_at} full />
        {run.started_at && (
          <span className="text-xs text-muted tabular-nums">
            {span(run.started_at, run.ended_at ? Date.parse(run.ended_at) : now)}
          </span>
        )}
        <span className="ml-auto inline-flex flex-wrap gap-1.5">
          {run.operations.map((id, index) => (
            <Button key={id} small onClick={() => show(id)}>
              {run.operations.length === 1
                ? t("schedule.operation")
                : t("schedule.operationOf", { number: index + 1 })}
            </Button>
          ))}
        </span>
      </div>
      {run.waiting.length > 0 && (
        <p className="text-xs text-muted">{t("schedule.waitingFor", { names: named(run.waiting) })}</p>
      )}
      {run.errors.map((error, index) => (
        <RunError key={index} error={error} named={named} />
      ))}
    </li>
  );
}

function RunError({
  error,
  named,
}: {
  error: Record<string, unknown>;
  named: (ids: string[]) => string;
}) {
  const text = (key: string) => (typeof error[key] === "string" ? error[key] : "");
  const ids = Array.isArray(error.device_ids) ? error.device_ids.map(String) : [];
  return (
    <div className="rounded-md border border-bad/50 bg-bad/10 px-3 py-1.5">
      <p className="whitespace-pre-line">
        {ids.length > 0 && <b>{named(ids)}: </b>}
        {text("detail") || text("code")}
      </p>
      {text("remedy") && <p className="text-muted">→ {text("remedy")}</p>}
      <code className="font-mono text-2xs text-muted">{text("code")}</code>
    </div>
  );
}
