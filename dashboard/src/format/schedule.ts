/** What a schedule does, between its saved arguments (free JSON) and its form. Pure. */
import type { ScheduleAction } from "@/api/types";

export type Draft = {
  package_id: string;
  version_id: string;
  targets: {
    device_ids: string[];
    group_id: string | null;
    cluster_id: string | null;
    control_planes: boolean;
  };
  /** Names in the environment: its values are never told. */
  environment: string[];
  /** The rest of what was wished, sent back as it came. */
  wishes: Record<string, unknown>;
};

export function argumentsOf(saved: Record<string, unknown>): Draft {
  const wishes = record(saved.wishes);
  return {
    package_id: text(saved.package_id),
    version_id: text(saved.version_id),
    targets: {
      device_ids: Array.isArray(saved.device_ids) ? saved.device_ids.map(String) : [],
      group_id: text(saved.group_id) || null,
      cluster_id: text(saved.cluster_id) || null,
      control_planes: saved.control_planes === true,
    },
    environment: Object.keys(record(wishes.environment)),
    wishes,
  };
}

export function actionOf(type: ScheduleAction["type"], draft: Draft): ScheduleAction {
  const { targets, wishes } = draft;
  if (type === "back_up_cluster") return { type, cluster_id: targets.cluster_id ?? "" };
  if (type === "remove_package") return { type, package_id: draft.package_id, ...targets };
  const { strategy, allow, assign, camera_ids, mode, fps, stream, cpu, memory_bytes } = wishes;
  const given = Object.fromEntries(
    Object.entries({ assign, camera_ids, mode, fps, stream }).filter(([, value]) => known(value)),
  );
  const resources = Object.fromEntries(
    Object.entries({ cpu, memory_bytes }).filter(([, value]) => known(value)),
  );
  return {
    type,
    version_id: draft.version_id,
    ...targets,
    ...(strategy === "overlap" || strategy === "recreate" ? { strategy } : {}),
    ...(Array.isArray(allow) ? { allow: allow as ("internet" | "privileged")[] } : {}),
    ...(Object.keys(given).length > 0 ? { cameras: given } : {}),
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
  };
}

function known(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
