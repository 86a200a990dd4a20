/** Everything that a check found, host by host, with what to do; warnings can be accepted. */
import type { ClusterCheck, HostFinding } from "@/api/types";
import { byHost, hindering } from "@/format/hosts";
import { useT } from "@/i18n/react";
import { Check } from "@/ui/field";
import { Chip, Mark } from "@/ui/status";

/** A host that was never met is not looked at before its key is accepted. */
const TRUST = "host_key_unknown";

export function CheckView({
  check,
  asked,
  accept,
  onAccept,
}: {
  check: ClusterCheck;
  asked: { id: string; name: string }[];
  accept: string[];
  onAccept: (names: string[]) => void;
}) {
  const t = useT();
  const left = hindering(check, accept).length;
  const warnings = [
    ...new Set(check.findings.filter((each) => each.level === "warning").map((each) => each.name)),
  ];
  return (
    <section aria-label={t("cluster.checked")} className="flex flex-col gap-2">
      <p role="status" className={left === 0 ? "text-ok" : "text-bad"}>
        <Mark tone={left === 0 ? "ok" : "bad"} className="mr-1.5 inline" />
        {left === 0 ? t("cluster.fit") : t("cluster.hinders", { count: left })}
      </p>
      {warnings.length > 0 && (
        <fieldset className="flex flex-wrap gap-x-6 gap-y-1 rounded-md border border-line px-3 py-2">
          <legend className="px-1 text-xs text-muted">{t("cluster.accept")}</legend>
          {warnings.map((name) => (
            <Check
              key={name}
              label={name}
              checked={accept.includes(name)}
              onChange={(event) =>
                onAccept(event.target.checked ? [...accept, name] : accept.filter((one) => one !== name))
              }
            />
          ))}
          {warnings.includes(TRUST) && (
            <p className="basis-full text-2xs text-muted">{t("cluster.acceptHint")}</p>
          )}
        </fieldset>
      )}
      <ul className="flex flex-col gap-2">
        {byHost(check, asked).map(({ device_id, name, findings }) => (
          <li key={device_id} aria-label={name} className="rounded-md border border-line bg-bg">
            <p className="flex items-center gap-2 px-3 py-1.5 font-medium">
              {name}
              {findings.length === 0 && (
                <span className="inline-flex items-center gap-1.5 text-xs font-normal text-ok">
                  <Mark tone="ok" />
                  {t("cluster.noFinding")}
                </span>
              )}
            </p>
            {findings.map((finding, index) => (
              <FindingLine key={index} finding={finding} accepted={accept.includes(finding.name)} />
            ))}
          </li>
        ))}
      </ul>
    </section>
  );
}

export function FindingLine({ finding, accepted = false }: { finding: HostFinding; accepted?: boolean }) {
  const t = useT();
  const warning = finding.level === "warning";
  return (
    <div className="border-t border-line/60 px-3 py-1.5">
      <p className="flex flex-wrap items-center gap-2">
        <Chip tone={warning ? "warn" : "bad"}>{t.code("cluster.level", finding.level)}</Chip>
        {warning && accepted && <Chip tone="ok">{t("cluster.accepted")}</Chip>}
        <span>{finding.detail}</span>
      </p>
      {finding.remedy && <p className="whitespace-pre-line text-muted">→ {finding.remedy}</p>}
      <code className="font-mono text-2xs text-muted">{finding.name}</code>
    </div>
  );
}
