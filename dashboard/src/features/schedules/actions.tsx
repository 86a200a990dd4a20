/** What can be done with a schedule: run now, pause and resume, edit, delete. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { deleteSchedule, editSchedule, readSchedule, runSchedule } from "@/api/schedules";
import type { Schedule } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { tell, tellError } from "@/ui/toast";
import { ScheduleDialog } from "./form";

export function ScheduleActions({
  schedule,
  small,
  onDeleted,
}: {
  schedule: Schedule;
  small?: boolean;
  onDeleted?: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const operator = useMay("operator");
  const [open, setOpen] = useState<"edit" | "delete" | null>(null);
  const [busy, setBusy] = useState(false);
  if (!operator) return null;
  const close = () => setOpen(null);
  const act = async (change: () => Promise<unknown>, done: string) => {
    setBusy(true);
    try {
      await change();
      await queries.invalidateQueries({ queryKey: ["schedules"] });
      await queries.invalidateQueries({ queryKey: ["schedule-runs"] });
      tell(done);
    } catch (error) {
      tellError(error, t("error.title"));
    } finally {
      setBusy(false);
    }
  };
  const run = () => act(() => runSchedule(schedule.id), t("schedule.begun"));
  const pause = () =>
    act(async () => {
      const { etag } = await readSchedule(schedule.id);
      await editSchedule(schedule.id, etag, { enabled: !schedule.enabled });
    }, t("done.saved"));
  const size = small ?? false;
  return (
    <span className="inline-flex gap-1.5">
      <Button small={size} disabled={busy} onClick={() => void run()}>
        {t("schedule.runNow")}
      </Button>
      <Button small={size} disabled={busy} onClick={() => void pause()}>
        {t(schedule.enabled ? "schedule.pause" : "schedule.resume")}
      </Button>
      <Button small={size} onClick={() => setOpen("edit")}>
        {t("action.edit")}
      </Button>
      <Button small={size} tone={size ? "ghost" : "danger"} onClick={() => setOpen("delete")}>
        {t("action.delete")}
      </Button>
      {open === "edit" && <ScheduleDialog schedule={schedule} onClose={close} />}
      {open === "delete" && (
        <FormDialog
          title={t("schedule.deleteTitle", { name: schedule.name })}
          action={t("action.delete")}
          tone="danger"
          onClose={close}
          submit={async () => {
            await deleteSchedule(schedule.id);
            // A list that still has it would ask for its runs.
            queries.setQueryData<Schedule[]>(["schedules", "list"], (list) =>
              list?.filter((each) => each.id !== schedule.id),
            );
            onDeleted?.();
            await queries.invalidateQueries({ queryKey: ["schedules"] });
            tell(t("done.deleted"));
          }}
        >
          <p>{t("schedule.deleteHint")}</p>
        </FormDialog>
      )}
    </span>
  );
}
