/** Signing in, and the password change that the first sign-in demands. */
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, type SubmitEvent, useState } from "react";
import { changePassword, saveLanguage, signIn } from "@/api/actions";
import { currentLanguage, hasChosenLanguage, setLanguage } from "@/i18n/language";
import { useT } from "@/i18n/react";
import { LanguageSwitch } from "@/shell/account";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Input } from "@/ui/field";
import { ProblemNotice } from "@/ui/problem";
import { tell } from "@/ui/toast";

const MIN_LENGTH = 10;

export function SignInPage() {
  const t = useT();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const submit = async () => {
    const me = await signIn(name, password);
    if (!hasChosenLanguage()) setLanguage(me.language ?? currentLanguage());
    else if (me.language !== currentLanguage()) await saveLanguage(currentLanguage());
    queries.setQueryData(["me"], me);
  };
  return (
    <Gate title={t("session.title")} hint={t("session.hint")} action={t("session.signIn")} submit={submit}>
      <Input
        label={t("session.name")}
        autoComplete="username"
        autoFocus
        required
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Input
        label={t("session.password")}
        type="password"
        autoComplete="current-password"
        required
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
    </Gate>
  );
}

/** First run: the password that the installation printed must not stay. */
export function PasswordPage() {
  const t = useT();
  const queries = useQueryClient();
  const form = usePassword();
  const submit = async () => {
    await form.submit();
    await queries.invalidateQueries({ queryKey: ["me"] });
  };
  return (
    <Gate
      title={t("password.firstTitle")}
      hint={t("password.firstHint")}
      action={t("password.change")}
      submit={submit}
      disabled={!form.valid}
    >
      {form.fields}
    </Gate>
  );
}

export function PasswordDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const form = usePassword();
  const submit = async () => {
    await form.submit();
    tell(t("password.changed"));
  };
  return (
    <FormDialog
      title={t("password.change")}
      action={t("password.change")}
      onClose={onClose}
      submit={submit}
      disabled={!form.valid}
    >
      {form.fields}
    </FormDialog>
  );
}

function usePassword() {
  const t = useT();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [again, setAgain] = useState("");
  const differ = again !== "" && again !== next;
  const valid = current !== "" && next.length >= MIN_LENGTH && next === again;
  const fields = (
    <>
      <Input
        label={t("password.current")}
        type="password"
        autoComplete="current-password"
        required
        value={current}
        onChange={(event) => setCurrent(event.target.value)}
      />
      <Input
        label={t("password.new")}
        hint={t("password.rule", { length: MIN_LENGTH })}
        type="password"
        autoComplete="new-password"
        required
        value={next}
        onChange={(event) => setNext(event.target.value)}
      />
      <Input
        label={t("password.again")}
        hint={differ ? <span className="text-bad">{t("password.differ")}</span> : undefined}
        type="password"
        autoComplete="new-password"
        required
        value={again}
        onChange={(event) => setAgain(event.target.value)}
      />
    </>
  );
  return { fields, valid, submit: () => changePassword(current, next) };
}

function Gate({
  title,
  hint,
  action,
  submit,
  children,
  disabled,
}: {
  title: string;
  hint: string;
  action: string;
  submit: () => Promise<void>;
  children: ReactNode;
  disabled?: boolean;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const run = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await submit();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return (
    <main className="grid min-h-screen place-items-center p-4">
      <div className="w-full max-w-sm">
        <div className="mb-6 flex items-center gap-3">
          <img src="/haechi.svg" alt="" className="size-10" />
          <span className="text-2xl font-bold tracking-tight">haechi</span>
          <span className="ml-auto">
            <LanguageSwitch />
          </span>
        </div>
        <form
          onSubmit={(event) => void run(event)}
          className="flex flex-col gap-3 rounded-lg border border-line bg-panel p-5"
        >
          <div>
            <h1 className="text-lg font-semibold">{title}</h1>
            <p className="text-muted">{hint}</p>
          </div>
          {children}
          {error !== null && <ProblemNotice error={error} />}
          <Button type="submit" tone="primary" busy={busy} disabled={disabled}>
            {action}
          </Button>
        </form>
      </div>
    </main>
  );
}
