/** What checks and operations say of hosts, put in order for the pages. Pure. */
import type { ClusterCheck, HostFinding, Problem } from "@/api/types";

export type CheckedHost = { device_id: string; name: string; findings: HostFinding[] };

/**
 * Every host that was asked for, in that order: those without a finding too. After them those of
 * the cluster that stand in the way.
 */
export function byHost(
  check: Pick<ClusterCheck, "findings">,
  asked: { id: string; name: string }[],
): CheckedHost[] {
  const known = new Set(asked.map(({ id }) => id));
  const others = new Map(
    check.findings
      .filter((each) => !known.has(each.device_id))
      .map(({ device_id: id, host }) => [id, { id, name: host }]),
  );
  return [...asked, ...others.values()].map(({ id, name }) => ({
    device_id: id,
    name,
    findings: check.findings.filter((each) => each.device_id === id),
  }));
}

/** What still hinders where these warnings are accepted. */
export function hindering(check: Pick<ClusterCheck, "findings">, accept: string[]): HostFinding[] {
  return check.findings.filter((each) => each.level === "error" || !accept.includes(each.name));
}

/** What is accepted after a check: what was, and what the cluster accepts of later hosts anyway. */
export function tolerated(check: Pick<ClusterCheck, "findings">, accept: string[]): string[] {
  const standing = check.findings.filter((each) => each.accepted).map((each) => each.name);
  return [...new Set([...accept, ...standing])];
}

export type HostProgress = {
  device_id: string;
  name: string;
  stage: string;
  ratio: number | null;
  error: Pick<Problem, "code" | "detail" | "remedy" | "data"> | null;
};

/** `operation.result.hosts`, which the API gives as free JSON. */
export function hostsOf(result: Record<string, unknown>): HostProgress[] {
  const hosts = result.hosts;
  if (typeof hosts !== "object" || hosts === null || Array.isArray(hosts)) return [];
  return Object.entries(hosts).map(([device_id, value]: [string, unknown]) => {
    const entry = record(value);
    const error = entry.error === undefined || entry.error === null ? null : record(entry.error);
    return {
      device_id,
      name: text(entry.name) || device_id,
      stage: text(entry.stage),
      ratio: typeof entry.ratio === "number" ? entry.ratio : null,
      error: error && {
        code: text(error.code),
        detail: text(error.detail) || text(error.code),
        remedy: text(error.remedy),
        data: record(error.data),
      },
    };
  });
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
