/** What is at work on the cluster, host by host, with its log; what failed last stays shown. */
import { useState } from "react";
import { ProblemError, toProblem } from "@/api/problem";
import type { Cluster, Operation } from "@/api/types";
import { OperationLine, OperationLog, Steps } from "@/features/operations/drawer";
import { type HostProgress, hostsOf } from "@/format/hosts";
import { isEnded } from "@/format/operation";
import { useT } from "@/i18n/react";
import { useLiveOperation } from "@/stream/operation";
import { Button } from "@/ui/button";
import { Findings } from "@/ui/findings";
import { Panel, Progress } from "@/ui/panel";
import { State } from "@/ui/status";

export function ProgressPanel({ cluster }: { cluster: Cluster }) {
  const id = cluster.active_operation_id ?? cluster.operation_id;
  const operation = useLiveOperation(id).data;
  if (!operation) return null;
  return <Shown key={operation.id} operation={operation} />;
}

function Shown({ operation }: { operation: Operation }) {
  const t = useT();
  const ended = isEnded(operation.state);
  const [open, setOpen] = useState(!ended);
  // What went well is shown by the nodes themselves once it is over.
  const hosts = hostsOf(operation.result).filter((each) => !ended || each.error !== null);
  return (
    <Panel
      title={t("cluster.operation")}
      actions={
        <Button small aria-expanded={open} onClick={() => setOpen(!open)}>
          {t("log.title")}
        </Button>
      }
    >
      <div className="flex flex-col gap-3">
        <OperationLine operation={operation} />
        {(!ended || operation.state === "failed") && <Steps operation={operation} />}
        {operation.error && <Findings error={new ProblemError(toProblem(operation.error, 500))} />}
        {hosts.length > 0 && (
          <ul aria-label={t("cluster.progress")} className="grid gap-2 lg:grid-cols-2">
            {hosts.map((host) => (
              <HostLine key={host.device_id} host={host} />
            ))}
          </ul>
        )}
        {open && <OperationLog id={operation.id} />}
      </div>
    </Panel>
  );
}

function HostLine({ host }: { host: HostProgress }) {
  const t = useT();
  const { error } = host;
  return (
    <li className="min-w-0 rounded-md border border-line bg-bg px-3 py-2">
      <p className="flex items-center gap-3">
        <b className="truncate">{host.name}</b>
        <span className="ml-auto">
          <State group="cluster.stage" value={host.stage} />
        </span>
      </p>
      {host.ratio !== null && error === null && (
        <div className="mt-1.5">
          <Progress ratio={host.ratio} label={t("cluster.progressOf", { name: host.name })} />
        </div>
      )}
      {error && (
        <div className="mt-1">
          <p className="whitespace-pre-line text-bad">{error.detail}</p>
          {error.remedy && <p className="whitespace-pre-line text-muted">→ {error.remedy}</p>}
          <code className="font-mono text-2xs text-muted">{error.code}</code>
        </div>
      )}
    </li>
  );
}
