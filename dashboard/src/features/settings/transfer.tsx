/** The inventory as a file: taken out without secrets, checked before it is taken in. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { importInventory } from "@/api/actions";
import { ProblemError, toProblem } from "@/api/problem";
import type { Imported } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { Findings } from "@/ui/findings";
import { Panel } from "@/ui/panel";
import { tell } from "@/ui/toast";

export function TransferPanel() {
  const t = useT();
  const operator = useMay("operator");
  const [open, setOpen] = useState(false);
  return (
    <Panel title={t("transfer.title")}>
      <p className="mb-3 text-muted">{t("transfer.hint")}</p>
      <div className="flex gap-2">
        <a
          href="/api/v1/inventory/export"
          download="haechi-inventory.json"
          className="inline-flex h-8 items-center rounded-md border border-line bg-raised px-3 hover:border-muted"
        >
          {t("transfer.export")}
        </a>
        {operator && <Button onClick={() => setOpen(true)}>{t("transfer.import")}</Button>}
      </div>
      {open && <ImportDialog onClose={() => setOpen(false)} />}
    </Panel>
  );
}

/** A file is tried as soon as it is chosen; only one without problems can be taken in. */
function ImportDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [tried, setTried] = useState<{ document: unknown; outcome: Imported } | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await work();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const choose = (file: File | undefined) =>
    attempt(async () => {
      setTried(null);
      if (!file) return;
      const document = parsed(await file.text());
      if (document === undefined) {
        throw new ProblemError({ ...toProblem(null, 422), detail: t("transfer.noJson") });
      }
      setTried({ document, outcome: await importInventory(document, true) });
    });
  const take = () =>
    attempt(async () => {
      if (!tried) return;
      await importInventory(tried.document, false);
      for (const key of ["site", "devices", "cameras", "links", "groups"]) {
        await queries.invalidateQueries({ queryKey: [key] });
      }
      tell(t("transfer.done"));
      onClose();
    });
  const changes = tried ? tried.outcome.created.length + tried.outcome.updated.length : 0;
  return (
    <Dialog title={t("transfer.import")} onClose={onClose} wide>
      <div className="flex flex-col gap-3">
        <label className="flex flex-col gap-1">
          <span className="text-xs text-muted">{t("transfer.file")}</span>
          <input
            type="file"
            accept=".json,application/json"
            onChange={(event) => void choose(event.target.files?.[0])}
            className="rounded-md border border-line bg-bg p-1.5 file:mr-3 file:rounded file:border-0 file:bg-raised file:px-2 file:py-1 file:text-text"
          />
        </label>
        {tried && <Preview outcome={tried.outcome} />}
        {error !== null && <Findings error={error} />}
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>{t("action.cancel")}</Button>
          <Button tone="primary" busy={busy} disabled={changes === 0} onClick={() => void take()}>
            {t("transfer.take")}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

function Preview({ outcome }: { outcome: Imported }) {
  const t = useT();
  const lists = [
    [t("transfer.created"), outcome.created],
    [t("transfer.updated"), outcome.updated],
  ] as const;
  return (
    <div role="status" className="flex flex-col gap-2">
      <p>
        {t("transfer.preview", {
          created: outcome.created.length,
          updated: outcome.updated.length,
          unchanged: outcome.unchanged,
        })}
      </p>
      {lists.map(
        ([title, items]) =>
          items.length > 0 && (
            <div key={title}>
              <h3 className="text-xs text-muted">{title}</h3>
              <ul className="max-h-48 overflow-auto rounded-md border border-line">
                {items.map((each, index) => (
                  <li key={index} className="border-b border-line/60 px-3 py-1 last:border-0">
                    <span className="text-muted">{t.code("transfer.kind", each.kind)}</span> {each.name}
                  </li>
                ))}
              </ul>
            </div>
          ),
      )}
    </div>
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
