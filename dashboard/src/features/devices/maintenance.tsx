/** When schedules may disturb the device. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { readMaintenance, setMaintenance, useMaintenance } from "@/api/schedules";
import type { Device, Hours } from "@/api/types";
import { WEEKDAYS } from "@/format/cron";
import { type Translate, useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Check, Input } from "@/ui/field";
import { Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { useZone } from "@/ui/time";
import { tell } from "@/ui/toast";

type Shown = { days: string[]; start: string; end: string };

export function MaintenancePanel({ device }: { device: Device }) {
  const t = useT();
  const operator = useMay("operator");
  const query = useMaintenance(device.id);
  const [editing, setEditing] = useState(false);
  return (
    <Panel
      title={t("maintenance.title")}
      actions={
        operator && (
          <Button small onClick={() => setEditing(true)}>
            {t("maintenance.edit")}
          </Button>
        )
      }
    >
      <Loaded query={query} rows={1}>
        {(hours) =>
          hours.length === 0 ? (
            <p className="text-muted">{t("maintenance.always")}</p>
          ) : (
            <ul aria-label={t("maintenance.title")}>
              {hours.map((each, index) => (
                <li key={index} className="tabular-nums">
                  {hoursText(t, each)}
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
      {editing && <MaintenanceDialog device={device} onClose={() => setEditing(false)} />}
    </Panel>
  );
}

function hoursText(t: Translate, hours: Shown): string {
  const days =
    hours.days.length === WEEKDAYS.length
      ? t("maintenance.everyDay")
      : hours.days.map((day) => t.code("weekday.short", day)).join(" ");
  return `${days} ${hours.start}-${hours.end}`;
}

/** An edit starts from what the server has now (ETag). */
function MaintenanceDialog({ device, onClose }: { device: Device; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "maintenance", device.id],
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readMaintenance(device.id),
  });
  if (query.data) {
    const { value, etag } = query.data;
    return <MaintenanceForm device={device} hours={value.hours as Hours[]} etag={etag} onClose={onClose} />;
  }
  return (
    <Dialog title={t("maintenance.title")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function MaintenanceForm({
  device,
  hours,
  etag,
  onClose,
}: {
  device: Device;
  hours: Hours[];
  etag: string;
  onClose: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const zone = useZone();
  const [readAs] = useState(etag);
  const [spans, setSpans] = useState<Hours[]>(hours);
  const change = (place: number, next: Partial<Hours>) =>
    setSpans((list) => list.map((each, index) => (index === place ? { ...each, ...next } : each)));
  return (
    <FormDialog
      title={t("maintenance.of", { name: device.name })}
      action={t("action.save")}
      onClose={onClose}
      wide
      submit={async () => {
        await setMaintenance(device.id, readAs, spans);
        await queries.invalidateQueries({ queryKey: ["maintenance"] });
        tell(t("done.saved"));
      }}
    >
      <p className="text-muted">{t("maintenance.hint", { zone })}</p>
      {spans.map((each, place) => (
        <fieldset key={place} className="flex flex-wrap items-end gap-3 rounded-md border border-line px-3 py-2">
          <legend className="px-1 text-xs text-muted">{t("maintenance.number", { number: place + 1 })}</legend>
          <div className="flex flex-wrap gap-x-3 gap-y-1 pb-1">
            {WEEKDAYS.map((day) => (
              <Check
                key={day}
                label={t.code("weekday.short", day)}
                checked={each.days.includes(day)}
                onChange={(event) =>
                  change(place, {
                    days: WEEKDAYS.filter((one) =>
                      one === day ? event.target.checked : each.days.includes(one),
                    ),
                  })
                }
              />
            ))}
          </div>
          <Input
            label={t("maintenance.from")}
            type="time"
            required
            value={each.start}
            onChange={(event) => change(place, { start: event.target.value })}
          />
          <Input
            label={t("maintenance.to")}
            type="time"
            required
            value={each.end}
            onChange={(event) => change(place, { end: event.target.value })}
          />
          <Button
            tone="ghost"
            className="ml-auto"
            onClick={() => setSpans((list) => list.filter((_, index) => index !== place))}
          >
            {t("maintenance.drop")}
          </Button>
        </fieldset>
      ))}
      <div>
        <Button
          onClick={() => setSpans((list) => [...list, { days: [...WEEKDAYS], start: "02:00", end: "05:00" }])}
        >
          {t("maintenance.add")}
        </Button>
      </div>
    </FormDialog>
  );
}
