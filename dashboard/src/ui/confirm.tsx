/** What cannot be undone is confirmed by typing the name of what it is done to. */
import { type ReactNode, useState } from "react";
import { useT } from "@/i18n/react";
import { FormDialog } from "./dialog";
import { Input } from "./field";

export function ConfirmByName({
  title,
  name,
  action,
  submit,
  onClose,
  children,
  wide,
  disabled,
}: {
  title: string;
  name: string;
  action: string;
  submit: () => Promise<unknown>;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  disabled?: boolean;
}) {
  const t = useT();
  const [typed, setTyped] = useState("");
  return (
    <FormDialog
      title={title}
      action={action}
      tone="danger"
      onClose={onClose}
      submit={submit}
      disabled={disabled || typed !== name}
      wide={wide ?? false}
    >
      {children}
      <Input
        label={t("confirm.name", { name })}
        autoComplete="off"
        spellCheck={false}
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
    </FormDialog>
  );
}
