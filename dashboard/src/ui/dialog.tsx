/** The browser's own dialog: focus trap, Escape and backdrop come with it. */
import { type ReactNode, type SubmitEvent, useEffect, useId, useRef, useState } from "react";
import { useT } from "@/i18n/react";
import { Button } from "./button";
import { cx } from "./cx";
import { ProblemNotice } from "./problem";

export function Dialog({
  title,
  onClose,
  children,
  wide,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const t = useT();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby={id}
      onClose={onClose}
      className={cx(
        "m-auto max-h-[88vh] w-[min(94vw,34rem)] rounded-lg border border-line bg-panel p-0 text-text shadow-2xl",
        wide && "w-[min(94vw,56rem)]",
      )}
    >
      <div className="flex items-center border-b border-line px-4 py-2">
        <h2 id={id} className="font-semibold">
          {title}
        </h2>
        <Button
          tone="ghost"
          small
          className="ml-auto"
          aria-label={t("action.close")}
          onClick={() => ref.current?.close()}
        >
          ✕
        </Button>
      </div>
      <div className="p-4">{children}</div>
    </dialog>
  );
}

/** A dialog that asks for something and does it: shows the problem and stays open on failure. */
export function FormDialog({
  title,
  submit,
  onClose,
  children,
  action,
  tone = "primary",
  wide,
  disabled,
}: {
  title: string;
  submit: () => Promise<unknown>;
  onClose: () => void;
  children: ReactNode;
  action: string;
  tone?: "primary" | "danger";
  wide?: boolean;
  disabled?: boolean;
}) {
  const t = useT();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const run = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await submit();
      onClose();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} wide={wide ?? false}>
      <form onSubmit={(event) => void run(event)} className="flex flex-col gap-3">
        {children}
        {error !== null && <ProblemNotice error={error} />}
        <div className="flex justify-end gap-2 pt-1">
          <Button onClick={onClose}>{t("action.cancel")}</Button>
          <Button type="submit" tone={tone} busy={busy} disabled={disabled}>
            {action}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
