/** A container's log, live; what it said before it died stays readable. */
import { useEffect, useState } from "react";
import { followText } from "@/api/actions";
import { LOG_LIMIT } from "@/format/log";
import { useT } from "@/i18n/react";
import { Dialog } from "@/ui/dialog";
import { LogView } from "@/ui/log";
import { ProblemNotice } from "@/ui/problem";

export function DeploymentLogDialog({
  id,
  name,
  onClose,
}: {
  id: string;
  name: string;
  onClose: () => void;
}) {
  const t = useT();
  const [lines, setLines] = useState<string[]>([]);
  const [ended, setEnded] = useState(false);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const abort = new AbortController();
    followText(`/api/v1/deployments/${id}/logs?follow=true`, abort.signal, (more) =>
      setLines((known) => [...known, ...more].slice(-LOG_LIMIT)),
    )
      .then(() => setEnded(true))
      .catch((failure: unknown) => {
        if (!abort.signal.aborted) setError(failure);
      });
    return () => abort.abort();
  }, [id]);
  return (
    <Dialog title={t("log.of", { name })} onClose={onClose} wide>
      <div className="flex flex-col gap-2">
        {error !== null && <ProblemNotice error={error} />}
        <LogView lines={lines} className="h-[60vh]" />
        <p className="text-xs text-muted">{t(ended ? "log.ended" : "log.following")}</p>
      </div>
    </Dialog>
  );
}
