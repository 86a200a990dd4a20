/** Whom something is for: devices, a group, a cluster. A group or cluster means its members then. */
import { useClusters } from "@/api/clusters";
import { useDevices, useGroups } from "@/api/queries";
import { useT } from "@/i18n/react";
import { Check, Select } from "@/ui/field";
import { State } from "@/ui/status";

export type Targets = {
  device_ids: string[];
  group_id: string | null;
  cluster_id: string | null;
  control_planes: boolean;
};

export const NO_TARGETS: Targets = {
  device_ids: [],
  group_id: null,
  cluster_id: null,
  control_planes: false,
};

export function hasTargets(targets: Targets): boolean {
  return targets.device_ids.length > 0 || targets.group_id !== null || targets.cluster_id !== null;
}

export function TargetFields({
  value,
  onValue,
}: {
  value: Targets;
  onValue: (next: Targets) => void;
}) {
  const t = useT();
  const devices = (useDevices().data ?? []).filter((each) => each.state !== "new");
  const groups = useGroups().data ?? [];
  const clusters = (useClusters().data ?? []).filter((each) => each.state === "ready");
  const members = groups.find((each) => each.id === value.group_id)?.device_ids ?? [];
  const nodes = (clusters.find((each) => each.id === value.cluster_id)?.members ?? [])
    .filter((each) => each.state === "ready" && (each.role === "worker" || value.control_planes))
    .map((each) => each.device_id);
  const covered = new Set([...members, ...nodes]);
  const toggle = (id: string, on: boolean) =>
    onValue({
      ...value,
      device_ids: on ? [...value.device_ids, id] : value.device_ids.filter((each) => each !== id),
    });
  return (
    <>
      {(groups.length > 0 || clusters.length > 0) && (
        <div className="grid gap-3 sm:grid-cols-2">
          {groups.length > 0 && (
            <Select
              label={t("deploy.group")}
              hint={t("deploy.groupHint")}
              value={value.group_id ?? ""}
              onPick={(id) => onValue({ ...value, group_id: id || null })}
              options={[["", t("field.none")], ...groups.map((each) => [each.id, each.name] as const)]}
            />
          )}
          {clusters.length > 0 && (
            <div className="flex flex-col gap-1.5">
              <Select
                label={t("deploy.cluster")}
                hint={t("deploy.clusterHint")}
                value={value.cluster_id ?? ""}
                onPick={(id) =>
                  onValue({
                    ...value,
                    cluster_id: id || null,
                    control_planes: id !== "" && value.control_planes,
                  })
                }
                options={[
                  ["", t("field.none")],
                  ...clusters.map((each) => [each.id, each.name] as const),
                ]}
              />
              {value.cluster_id !== null && (
                <Check
                  label={t("deploy.controlPlanes")}
                  checked={value.control_planes}
                  onChange={(event) => onValue({ ...value, control_planes: event.target.checked })}
                />
              )}
            </div>
          )}
        </div>
      )}
      <fieldset className="flex flex-col gap-1">
        <legend className="mb-1 text-xs text-muted">{t("deploy.devices")}</legend>
        {devices.length === 0 && <p className="text-muted">{t("deploy.noDevice")}</p>}
        <div className="grid gap-x-4 gap-y-1.5 sm:grid-cols-2">
          {devices.map((each) => (
            <div key={each.id} className="flex items-center gap-2">
              <Check
                label={each.name}
                checked={value.device_ids.includes(each.id) || covered.has(each.id)}
                disabled={covered.has(each.id)}
                onChange={(event) => toggle(each.id, event.target.checked)}
              />
              <span className="text-xs">
                <State group="device.state" value={each.state} />
              </span>
            </div>
          ))}
        </div>
      </fieldset>
    </>
  );
}
