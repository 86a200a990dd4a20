/** A refusal with everything that was wrong, one by one, each with its remedy. */
import { findingsOf, problemOf } from "@/api/problem";
import { useT } from "@/i18n/react";
import { ProblemNotice } from "./problem";

export function Findings({ error }: { error: unknown }) {
  const t = useT();
  const findings = findingsOf(problemOf(error));
  return (
    <div className="flex flex-col gap-2">
      <ProblemNotice error={error} />
      {findings.length > 0 && (
        <ol aria-label={t("upload.findings")} className="flex flex-col gap-1.5">
          {findings.map((finding, index) => (
            <li key={index} className="rounded-md border border-line bg-bg px-3 py-1.5">
              <p>
                {finding.path && <code className="mr-1.5 font-mono text-xs">{finding.path}</code>}
                {finding.detail}
              </p>
              {finding.remedy && <p className="text-muted">→ {finding.remedy}</p>}
              {finding.code && <code className="font-mono text-2xs text-muted">{finding.code}</code>}
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}
