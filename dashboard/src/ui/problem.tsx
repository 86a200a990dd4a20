/** Failures: what happened, what to do about it, and the id to quote. */
import { problemOf, UNREACHABLE, UNREADABLE } from "@/api/problem";
import { useT } from "@/i18n/react";
import { Button } from "./button";

export function ProblemNotice({ error, retry }: { error: unknown; retry?: () => void }) {
  const t = useT();
  const problem = problemOf(error);
  const own = problem.code === UNREACHABLE || problem.code === UNREADABLE;
  const detail =
    problem.detail || (problem.code === UNREACHABLE ? t("error.unreachable") : t("error.unreadable"));
  const remedy =
    problem.remedy || (problem.code === UNREACHABLE ? t("error.unreachableRemedy") : "");
  return (
    <div role="alert" className="rounded-md border border-bad/50 bg-bad/10 px-3 py-2">
      <p className="font-semibold text-bad">{problem.title || t("error.title")}</p>
      <p className="whitespace-pre-line">{detail}</p>
      {remedy && <p className="mt-0.5 whitespace-pre-line text-muted">→ {remedy}</p>}
      <Lines of={problem.data.log} />
      <div className="mt-1 flex flex-wrap items-center gap-3 text-2xs text-muted">
        {!own && <code className="font-mono">{problem.code}</code>}
        {problem.request_id && <code className="font-mono">{problem.request_id}</code>}
        {retry && (
          <Button small onClick={retry}>
            {t("action.retry")}
          </Button>
        )}
      </div>
    </div>
  );
}

/** The last lines of whatever failed, where the problem carries them. */
function Lines({ of: log }: { of: unknown }) {
  const text = Array.isArray(log) ? log.join("\n") : typeof log === "string" ? log : "";
  if (!text.trim()) return null;
  return (
    <pre className="mt-1.5 max-h-48 overflow-auto rounded border border-line bg-bg p-2 font-mono text-xs whitespace-pre-wrap">
      {text}
    </pre>
  );
}
