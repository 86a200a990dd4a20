/** When a schedule is due: once, or again and again; chosen, and said in words. */
import { cronOf, repeatOf, type Repeat, WEEKDAYS } from "@/format/cron";
import { dateTime } from "@/format/time";
import type { Translate } from "@/i18n/react";
import { useT } from "@/i18n/react";
import { Input, Select } from "@/ui/field";
import { Tabs } from "@/ui/panel";

export type When = { kind: "once"; at: string } | { kind: "again"; repeat: Repeat };

export function repeatText(t: Translate, repeat: Repeat): string {
  switch (repeat.every) {
    case "hour":
      return t("when.everyHour", { minute: repeat.minute });
    case "day":
      return t("when.everyDay", { time: repeat.time });
    case "workday":
      return t("when.everyWorkday", { time: repeat.time });
    case "week":
      return t("when.everyWeek", { day: t.code("weekday", repeat.day), time: repeat.time });
    case "month":
      return t("when.everyMonth", { date: repeat.date, time: repeat.time });
    case "cron":
      return repeat.cron;
  }
}

/** As saved: the moment in the schedule's own zone, or how it repeats. */
export function whenText(
  t: Translate,
  schedule: { at: string | null; cron: string | null; timezone: string },
): string {
  if (schedule.cron !== null) return repeatText(t, repeatOf(schedule.cron));
  return t("when.onceAt", { at: dateTime(schedule.at, t.language, schedule.timezone) });
}

export function WhenFields({
  value,
  zone,
  onValue,
}: {
  value: When;
  zone: string;
  onValue: (next: When) => void;
}) {
  const t = useT();
  return (
    <fieldset className="flex flex-col gap-2">
      <legend className="mb-1 text-xs text-muted">{t("when.title")}</legend>
      <div>
        <Tabs
          label={t("when.often")}
          value={value.kind}
          onChange={(kind) =>
            onValue(
              kind === "once" ? { kind, at: "" } : { kind, repeat: { every: "day", time: "03:00" } },
            )
          }
          options={[
            ["again", t("when.again")],
            ["once", t("when.once")],
          ]}
        />
      </div>
      {value.kind === "once" ? (
        <Input
          label={t("when.at")}
          hint={t("when.zone", { zone })}
          type="datetime-local"
          required
          value={value.at}
          onChange={(event) => onValue({ kind: "once", at: event.target.value })}
        />
      ) : (
        <RepeatFields value={value.repeat} zone={zone} onValue={(repeat) => onValue({ kind: "again", repeat })} />
      )}
    </fieldset>
  );
}

const EVERY: Repeat["every"][] = ["hour", "day", "workday", "week", "month", "cron"];

function RepeatFields({
  value,
  zone,
  onValue,
}: {
  value: Repeat;
  zone: string;
  onValue: (next: Repeat) => void;
}) {
  const t = useT();
  const time = "time" in value ? value.time : "03:00";
  const pick = (every: Repeat["every"]) => {
    if (every === "hour") onValue({ every, minute: 0 });
    else if (every === "week") onValue({ every, day: "sun", time });
    else if (every === "month") onValue({ every, date: 1, time });
    // The one that was chosen so far is where an own expression begins.
    else if (every === "cron") onValue({ every, cron: cronOf(value) });
    else onValue({ every, time });
  };
  return (
    <>
      <div className="grid gap-3 sm:grid-cols-3">
        <Select
          label={t("when.every")}
          value={value.every}
          onPick={pick}
          options={EVERY.map((each) => [each, t.code("when.every", each)] as const)}
        />
        {value.every === "hour" && (
          <Input
            label={t("when.minute")}
            type="number"
            min={0}
            max={59}
            required
            value={value.minute}
            onChange={(event) => onValue({ ...value, minute: Number(event.target.value) })}
          />
        )}
        {value.every === "week" && (
          <Select
            label={t("when.day")}
            value={value.day}
            onPick={(day) => onValue({ ...value, day })}
            options={WEEKDAYS.map((day) => [day, t.code("weekday", day)] as const)}
          />
        )}
        {value.every === "month" && (
          <Input
            label={t("when.date")}
            type="number"
            min={1}
            max={31}
            required
            value={value.date}
            onChange={(event) => onValue({ ...value, date: Number(event.target.value) })}
          />
        )}
        {"time" in value && (
          <Input
            label={t("when.time")}
            type="time"
            required
            value={value.time}
            onChange={(event) => onValue({ ...value, time: event.target.value })}
          />
        )}
        {value.every === "cron" && (
          <Input
            label={t("when.cron")}
            hint={t("when.cronHint")}
            wrap="sm:col-span-2"
            required
            spellCheck={false}
            className="font-mono"
            value={value.cron}
            onChange={(event) => onValue({ every: "cron", cron: event.target.value })}
          />
        )}
      </div>
      <p className="rounded-md border border-line bg-bg px-3 py-1.5">
        {repeatText(t, repeatOf(cronOf(value)))}
        <code className="ml-3 font-mono text-xs text-muted">{cronOf(value)}</code>
        <span className="ml-3 text-xs text-muted">{t("when.zone", { zone })}</span>
      </p>
    </>
  );
}
