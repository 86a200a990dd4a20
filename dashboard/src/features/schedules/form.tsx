/** Make a schedule, or edit one: what, for whom, when. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useClusters } from "@/api/clusters";
import { useAllVersions, usePackages } from "@/api/queries";
import { createSchedule, editSchedule, readSchedule } from "@/api/schedules";
import type { Schedule, ScheduleAction } from "@/api/types";
import { hasTargets, TargetFields } from "@/features/deployments/targets";
import { VersionSelect } from "@/features/packages/deploy";
import { cronOf, repeatOf } from "@/format/cron";
import { actionOf, argumentsOf, type Draft } from "@/format/schedule";
import { fromWallClock, toWallClock } from "@/format/zone";
import { useT } from "@/i18n/react";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Input, Select } from "@/ui/field";
import { Loaded } from "@/ui/query";
import { useZone } from "@/ui/time";
import { tell } from "@/ui/toast";
import { type When, WhenFields } from "./when";

type Type = ScheduleAction["type"];

/** An edit starts from what the server has now (ETag). */
export function ScheduleDialog({ schedule, onClose }: { schedule?: Schedule; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "schedule", schedule?.id],
    enabled: schedule !== undefined,
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readSchedule(schedule?.id ?? ""),
  });
  if (!schedule) return <ScheduleForm onClose={onClose} />;
  if (query.data) {
    return <ScheduleForm schedule={query.data.value} etag={query.data.etag} onClose={onClose} />;
  }
  return (
    <Dialog title={t("schedule.edit")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function ScheduleForm({
  schedule,
  etag,
  onClose,
}: {
  schedule?: Schedule;
  etag?: string;
  onClose: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const site = useZone();
  const zone = schedule?.timezone ?? site;
  const [readAs] = useState(etag ?? "*");
  const [name, setName] = useState(schedule?.name ?? "");
  const [type, setType] = useState<Type>((schedule?.action as Type | undefined) ?? "deploy_package");
  const [draft, setDraft] = useState<Draft>(() => argumentsOf(schedule?.arguments ?? {}));
  const [touched, setTouched] = useState(false);
  const [when, setWhen] = useState<When>(() =>
    schedule?.at
      ? { kind: "once", at: toWallClock(schedule.at, zone) }
      : { kind: "again", repeat: schedule?.cron ? repeatOf(schedule.cron) : { every: "day", time: "03:00" } },
  );
  const change = (next: Partial<Draft>) => {
    setTouched(true);
    setDraft((known) => ({ ...known, ...next }));
  };
  const complete =
    type === "back_up_cluster"
      ? draft.targets.cluster_id !== null
      : hasTargets(draft.targets) && (type === "deploy_package" ? draft.version_id : draft.package_id) !== "";
  const submit = async () => {
    const due =
      when.kind === "again" ? { cron: cronOf(when.repeat) } : { at: fromWallClock(when.at, zone) };
    if (schedule) {
      // An environment comes back hidden: what was not touched stays as it is saved.
      const action = touched ? { action: actionOf(type, draft) } : {};
      await editSchedule(schedule.id, readAs, { name, ...due, ...action });
    } else {
      await createSchedule({ name, action: actionOf(type, draft), ...due });
    }
    await queries.invalidateQueries({ queryKey: ["schedules"] });
    tell(t(schedule ? "done.saved" : "done.added"));
  };
  return (
    <FormDialog
      title={t(schedule ? "schedule.edit" : "schedules.add")}
      action={t(schedule ? "action.save" : "action.add")}
      onClose={onClose}
      submit={submit}
      disabled={!complete}
      wide
    >
      <Input
        label={t("field.name")}
        required
        autoFocus
        maxLength={128}
        placeholder={t("schedule.namePlaceholder")}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Select
        label={t("schedule.action")}
        disabled={schedule !== undefined}
        value={type}
        onPick={setType}
        options={(["deploy_package", "remove_package", "back_up_cluster"] as const).map(
          (each) => [each, t.code("schedule.action", each)] as const,
        )}
      />
      {type === "back_up_cluster" ? (
        <ClusterSelect
          value={draft.targets.cluster_id ?? ""}
          onPick={(id) => change({ targets: { ...draft.targets, cluster_id: id || null } })}
        />
      ) : (
        <>
          <PackageFields draft={draft} version={type === "deploy_package"} onDraft={change} />
          <TargetFields value={draft.targets} onValue={(targets) => change({ targets })} />
        </>
      )}
      {type === "deploy_package" && draft.environment.length > 0 && touched && (
        <p className="text-warn">{t("schedule.environmentLost", { names: draft.environment.join(", ") })}</p>
      )}
      <WhenFields value={when} zone={zone} onValue={setWhen} />
    </FormDialog>
  );
}

function PackageFields({
  draft,
  version,
  onDraft,
}: {
  draft: Draft;
  version: boolean;
  onDraft: (next: Partial<Draft>) => void;
}) {
  const t = useT();
  const packages = usePackages().data ?? [];
  const sought = version && draft.version_id !== "" && draft.package_id === "";
  // A saved deployment knows its version only: its package is looked for.
  const versions = useAllVersions(sought ? packages : undefined).data;
  const package_id =
    draft.package_id || (versions?.find((each) => each.id === draft.version_id)?.package_id ?? "");
  return (
    <div className="grid gap-3 sm:grid-cols-2">
      <Select
        label={t("field.package")}
        value={package_id}
        onPick={(id) => onDraft({ package_id: id, version_id: "" })}
        options={[
          ["", t("field.choose")],
          ...packages.map((each) => [each.id, each.name] as const),
        ]}
      />
      {version && package_id && (
        <VersionSelect
          package_id={package_id}
          value={draft.version_id}
          onPick={(version_id) => onDraft({ version_id })}
        />
      )}
    </div>
  );
}

function ClusterSelect({ value, onPick }: { value: string; onPick: (id: string) => void }) {
  const t = useT();
  const clusters = (useClusters().data ?? []).filter((each) => each.state === "ready");
  return (
    <Select
      label={t("schedule.cluster")}
      value={value}
      onPick={onPick}
      options={[
        ["", t("field.choose")],
        ...clusters.map((each) => [each.id, each.name] as const),
      ]}
    />
  );
}
