/** Each host as it was before forming against as it is after cleaning. */
import type { ClusterProof, Member } from "@/api/types";
import { useT } from "@/i18n/react";
import { Panel } from "@/ui/panel";
import { Mark, State } from "@/ui/status";
import { Clock } from "@/ui/time";

type HostProof = ClusterProof["hosts"][number];

export function ProofPanel({
  proof,
  members,
  whole,
}: {
  proof: ClusterProof;
  members: Member[];
  /** The cluster is gone: all its hosts count; otherwise only those that left it. */
  whole: boolean;
}) {
  const t = useT();
  const shown = proof.hosts.filter((each) => whole || each.after_at !== null);
  if (shown.length === 0) return null;
  const clean = shown.every((each) => each.state === "clean");
  const nameOf = (id: string) => members.find((each) => each.device_id === id)?.node_name ?? id;
  return (
    <Panel title={t("proof.title")}>
      <p role="status" className={clean ? "text-ok" : "text-warn"}>
        <Mark tone={clean ? "ok" : "warn"} className="mr-1.5 inline" />
        {t(clean ? "proof.clean" : "proof.notClean")}
      </p>
      <ul className="mt-2 flex flex-col gap-2">
        {shown.map((host) => (
          <li key={host.device_id} className="rounded-md border border-line bg-bg px-3 py-2">
            <p className="flex flex-wrap items-center gap-3">
              <b>{nameOf(host.device_id)}</b>
              <State group="proof.state" value={host.state} />
              <span className="ml-auto text-xs text-muted">
                {t("proof.before")} <Clock at={host.before_at} full /> · {t("proof.after")}{" "}
                <Clock at={host.after_at} full />
              </span>
            </p>
            {host.differences.length > 0 && <Differences host={host} />}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Differences({ host }: { host: HostProof }) {
  const t = useT();
  return (
    <table className="mt-1.5 w-full text-left text-xs">
      <thead className="text-muted">
        <tr>
          {[t("proof.kind"), t("proof.what"), t("proof.before"), t("proof.after")].map((each) => (
            <th key={each} scope="col" className="py-0.5 pr-3 font-medium">
              {each}
            </th>
          ))}
        </tr>
      </thead>
      <tbody className="font-mono">
        {host.differences.map((each, index) => (
          <tr key={index} className="border-t border-line/60">
            {["kind", "name", "before", "after"].map((name) => (
              <td key={name} className="py-0.5 pr-3 break-all">
                {typeof each[name] === "string" ? each[name] : "–"}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
