/** Long work: what runs, how far it is, its log, and the way to stop it. */
import { useEffect, useMemo, useState } from "react";
import { cancelOperation, followText } from "@/api/actions";
import { ProblemError, toProblem } from "@/api/problem";
import { useOperation, useOperations } from "@/api/queries";
import type { Operation } from "@/api/types";
import { joinLines, linesOf, LOG_LIMIT } from "@/format/log";
import { isEnded } from "@/format/operation";
import { span } from "@/format/time";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { useTopic } from "@/stream/react";
import { Button } from "@/ui/button";
import { LogView } from "@/ui/log";
import { Empty, Progress } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { Loaded } from "@/ui/query";
import { Mark, State, toneOf } from "@/ui/status";
import { Ago, useNow } from "@/ui/time";
import { tellError } from "@/ui/toast";
import { useOperationsDrawer } from "./context";

export function useRunning(): Operation[] {
  const { data } = useOperations();
  return useMemo(() => data?.items.filter((each) => !isEnded(each.state)) ?? [], [data]);
}

export function OperationsButton() {
  const t = useT();
  const running = useRunning();
  const { show } = useOperationsDrawer();
  return (
    <Button tone="ghost" small onClick={() => show()} aria-label={t("operations.button", { count: running.length })}>
      {running.length > 0 && (
        <span aria-hidden className="size-2 animate-pulse rounded-full bg-info" />
      )}
      {t("operations.title")}
      {running.length > 0 && <b className="text-info">{running.length}</b>}
    </Button>
  );
}

export function OperationsDrawer({
  id,
  pick,
  onClose,
}: {
  id: string | null;
  pick: (id: string | null) => void;
  onClose: () => void;
}) {
  const t = useT();
  useEffect(() => {
    const close = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) onClose();
    };
    window.addEventListener("keydown", close);
    return () => window.removeEventListener("keydown", close);
  }, [onClose]);
  return (
    <aside
      aria-label={t("operations.title")}
      className="fixed inset-y-0 right-0 z-30 flex w-[min(100vw,34rem)] flex-col border-l border-line bg-panel shadow-2xl"
    >
      <div className="flex h-11 items-center gap-2 border-b border-line px-3">
        {id && (
          <Button tone="ghost" small onClick={() => pick(null)}>
            ← {t("action.back")}
          </Button>
        )}
        <h2 className="font-semibold">{t("operations.title")}</h2>
        <Button tone="ghost" small autoFocus className="ml-auto" aria-label={t("action.close")} onClick={onClose}>
          ✕
        </Button>
      </div>
      <div className="min-h-0 flex-1 overflow-y-auto">
        {id ? <OperationDetail key={id} id={id} /> : <OperationList pick={pick} />}
      </div>
    </aside>
  );
}

function OperationList({ pick }: { pick: (id: string) => void }) {
  const t = useT();
  const query = useOperations();
  return (
    <Loaded query={query}>
      {({ items }) =>
        items.length === 0 ? (
          <Empty title={t("operations.empty")} hint={t("operations.emptyHint")} />
        ) : (
          <ul>
            {items.map((operation) => (
              <li key={operation.id} className="border-b border-line/60">
                <button
                  type="button"
                  onClick={() => pick(operation.id)}
                  className="w-full px-3 py-2 text-left hover:bg-raised"
                >
                  <OperationLine operation={operation} />
                </button>
              </li>
            ))}
          </ul>
        )
      }
    </Loaded>
  );
}

export function OperationLine({ operation }: { operation: Operation }) {
  const t = useT();
  return (
    <div className="flex flex-col gap-1">
      <div className="flex items-center gap-2">
        <State group="operation.state" value={operation.state} />
        <span className="min-w-0 truncate font-medium">{operation.title || operation.kind}</span>
        <span className="ml-auto shrink-0 text-xs text-muted">
          <Ago at={operation.created_at} />
        </span>
      </div>
      {!isEnded(operation.state) && (
        <>
          <Progress ratio={operation.progress_ratio} label={t("operations.progress")} />
          <p className="truncate text-xs text-muted">{operation.progress_text}</p>
        </>
      )}
    </div>
  );
}

function OperationDetail({ id }: { id: string }) {
  const t = useT();
  const query = useOperation(id);
  const now = useNow();
  const operator = useMay("operator");
  const [asked, setAsked] = useState(false);
  const cancel = async () => {
    setAsked(true);
    try {
      await cancelOperation(id);
    } catch (error) {
      setAsked(false);
      tellError(error, t("error.title"));
    }
  };
  return (
    <Loaded query={query}>
      {(operation) => {
        const ended = isEnded(operation.state);
        return (
          <div className="flex flex-col gap-3 p-3">
            <div className="flex flex-wrap items-center gap-2">
              <State group="operation.state" value={operation.state} />
              <b>{operation.title || operation.kind}</b>
              <span className="text-muted tabular-nums">
                {span(
                  operation.started_at ?? operation.created_at,
                  operation.ended_at ? Date.parse(operation.ended_at) : now,
                )}
              </span>
              {!ended && operator && (
                <Button
                  tone="danger"
                  small
                  className="ml-auto"
                  busy={asked || operation.state === "cancelling"}
                  onClick={() => void cancel()}
                >
                  {t("operations.cancel")}
                </Button>
              )}
            </div>
            {!ended && <Progress ratio={operation.progress_ratio} label={t("operations.progress")} />}
            <Steps operation={operation} />
            {operation.error && (
              <ProblemNotice error={new ProblemError(toProblem(operation.error, 500))} />
            )}
            <OperationLog id={id} />
            <p className="font-mono text-2xs text-muted">
              {operation.id} · {operation.kind} · {operation.requested_by}
            </p>
          </div>
        );
      }}
    </Loaded>
  );
}

export function Steps({ operation }: { operation: Operation }) {
  const t = useT();
  if (operation.steps.length === 0) return null;
  return (
    <ol aria-label={t("operations.steps")} className="flex flex-wrap gap-x-4 gap-y-1">
      {operation.steps.map((step) => {
        const failed = operation.state === "failed" && operation.step === step.name;
        const tone = failed ? "bad" : step.state === "done" ? "ok" : toneOf(step.state === "running" ? "starting" : "");
        return (
          <li
            key={step.name}
            aria-current={step.state === "running" ? "step" : undefined}
            className={step.state === "waiting" && !failed ? "text-muted" : ""}
          >
            <span className="inline-flex items-center gap-1.5">
              <Mark tone={tone} />
              {step.title}
            </span>
          </li>
        );
      })}
    </ol>
  );
}

/** The stored log first, then live lines. */
export function OperationLog({ id, className }: { id: string; className?: string }) {
  const [read, setRead] = useState<string[]>([]);
  const [live, setLive] = useState<string[]>([]);
  const [error, setError] = useState<unknown>(null);
  useTopic(`log:${id}`, (message) => {
    setLive((known) => [...known, ...linesOf(message.data)].slice(-LOG_LIMIT));
  });
  useEffect(() => {
    const abort = new AbortController();
    const stored: string[] = [];
    followText(`/api/v1/operations/${id}/log`, abort.signal, (more) => stored.push(...more))
      .then(() => setRead(stored))
      .catch((failure: unknown) => {
        if (!abort.signal.aborted) setError(failure);
      });
    return () => abort.abort();
  }, [id]);
  const lines = useMemo(() => joinLines(read, live), [read, live]);
  return (
    <>
      {error !== null && <ProblemNotice error={error} />}
      <LogView lines={lines} className={className ?? ""} />
    </>
  );
}
