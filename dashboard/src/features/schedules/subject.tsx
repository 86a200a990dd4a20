/** What a schedule does and for whom, in words: names where they are still known, else ids. */
import { useClusters } from "@/api/clusters";
import { useAllVersions, useDevices, useGroups, usePackages } from "@/api/queries";
import type { Schedule } from "@/api/types";
import { argumentsOf } from "@/format/schedule";
import { useT } from "@/i18n/react";

export function Subject({ schedule }: { schedule: Schedule }) {
  const t = useT();
  const packages = usePackages().data;
  const versions = useAllVersions(schedule.action === "deploy_package" ? packages : undefined).data;
  const devices = useDevices().data;
  const groups = useGroups().data;
  const clusters = useClusters().data;
  const { package_id, version_id, targets } = argumentsOf(schedule.arguments);
  const version = versions?.find((each) => each.id === version_id);
  const what = version
    ? `${version.package_name}:${version.version}`
    : packages?.find((each) => each.id === package_id)?.name || version_id || package_id;
  const cluster =
    targets.cluster_id &&
    (clusters?.find((each) => each.id === targets.cluster_id)?.name ?? targets.cluster_id);
  const whom = [
    targets.group_id && (groups?.find((each) => each.id === targets.group_id)?.name ?? targets.group_id),
    cluster && (targets.control_planes ? t("schedule.withControlPlanes", { name: cluster }) : cluster),
    ...targets.device_ids.map((id) => devices?.find((each) => each.id === id)?.name ?? id),
  ].filter(Boolean);
  return (
    <div>
      <p>
        {t.code("schedule.action", schedule.action)} {what && <b>{what}</b>}
      </p>
      <p className="max-w-96 truncate text-xs text-muted" title={whom.join(", ")}>
        {whom.join(", ")}
      </p>
    </div>
  );
}
