/** A zip by drop or by choice, with progress; where it is refused, every reason with its remedy. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type DragEvent, type SubmitEvent, useEffect, useId, useRef, useState } from "react";
import { buildVersion, uploadPackage } from "@/api/actions";
import { problemOf } from "@/api/problem";
import { useOperationsDrawer } from "@/features/operations/context";
import { bytes, percent } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { cx } from "@/ui/cx";
import { Dialog } from "@/ui/dialog";
import { Check, Input } from "@/ui/field";
import { Findings } from "@/ui/findings";
import { Progress } from "@/ui/panel";
import { tell } from "@/ui/toast";

export function UploadDialog({ name: known, onClose }: { name?: string; onClose: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const { show } = useOperationsDrawer();
  const [file, setFile] = useState<File | null>(null);
  const [version, setVersion] = useState("");
  const [build, setBuild] = useState(true);
  const [replace, setReplace] = useState(false);
  const [ratio, setRatio] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);

  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (!file) return;
    const control = new AbortController();
    abort.current = control;
    setError(null);
    setRatio(0);
    try {
      const query = { filename: file.name, version, ...(known ? { name: known } : {}), ...(replace ? { replace: "true" as const } : {}) };
      const made = await uploadPackage(file, query, setRatio, control.signal);
      await queries.invalidateQueries({ queryKey: ["packages"] });
      await queries.invalidateQueries({ queryKey: ["versions"] });
      tell(t("upload.done", { name: `${made.package_name}:${made.version}` }));
      if (build) {
        const { operation_id } = await buildVersion(made.package_id, made.version);
        show(operation_id);
      }
      onClose();
      await navigate({ to: "/packages/$id", params: { id: made.package_id } });
    } catch (failure) {
      if (!control.signal.aborted) setError(failure);
    } finally {
      setRatio(null);
    }
  };

  return (
    <Dialog title={known ? t("upload.newVersion", { name: known }) : t("upload.title")} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-3">
        <Drop file={file} onFile={setFile} disabled={ratio !== null} />
        <Input
          label={t("field.version")}
          hint={t("upload.versionHint")}
          required
          maxLength={128}
          value={version}
          onChange={(event) => setVersion(event.target.value)}
        />
        <Check
          label={t("upload.buildToo")}
          checked={build}
          onChange={(event) => setBuild(event.target.checked)}
        />
        {ratio !== null && (
          <div>
            <Progress ratio={ratio} label={t("upload.progress")} />
            <p className="mt-1 text-xs text-muted">
              {ratio < 1 ? percent(ratio) : t("upload.checking")}
            </p>
          </div>
        )}
        {error !== null && <Findings error={error} />}
        {error !== null && problemOf(error).status === 409 && (
          <Check
            label={t("upload.replace")}
            hint={t("upload.replaceHint")}
            checked={replace}
            onChange={(event) => setReplace(event.target.checked)}
          />
        )}
        <div className="flex justify-end gap-2">
          <Button onClick={() => (ratio === null ? onClose() : abort.current?.abort())}>
            {t("action.cancel")}
          </Button>
          <Button type="submit" tone="primary" busy={ratio !== null} disabled={!file || !version}>
            {t("upload.action")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Drop({
  file,
  onFile,
  disabled,
}: {
  file: File | null;
  onFile: (file: File) => void;
  disabled: boolean;
}) {
  const t = useT();
  const id = useId();
  const [over, setOver] = useState(false);
  const take = (list: FileList | null) => {
    const first = list?.[0];
    if (first && !disabled) onFile(first);
  };
  const drag = (inside: boolean) => (event: DragEvent) => {
    event.preventDefault();
    setOver(inside);
  };
  return (
    <label
      htmlFor={id}
      onDragOver={drag(true)}
      onDragLeave={drag(false)}
      onDrop={(event) => {
        drag(false)(event);
        take(event.dataTransfer.files);
      }}
      className={cx(
        "flex flex-col items-center gap-1 rounded-lg border-2 border-dashed px-4 py-7 text-center",
        "focus-within:border-accent",
        over ? "border-accent bg-accent/10" : "border-line",
      )}
    >
      <input
        id={id}
        type="file"
        accept=".zip,application/zip"
        disabled={disabled}
        onChange={(event) => take(event.target.files)}
        className="sr-only"
      />
      {file ? (
        <>
          <b>{file.name}</b>
          <span className="text-muted">{bytes(file.size)}</span>
        </>
      ) : (
        <>
          <b>{t("upload.drop")}</b>
          <span className="text-muted">{t("upload.dropHint")}</span>
        </>
      )}
    </label>
  );
}
