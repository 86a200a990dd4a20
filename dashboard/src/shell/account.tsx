import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { saveLanguage, signOut } from "@/api/actions";
import { useMe } from "@/api/queries";
import { forgetSession } from "@/api/signed-out";
import { PasswordDialog } from "@/features/session/pages";
import { setLanguage } from "@/i18n/language";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { tellError } from "@/ui/toast";
import { applyTheme, currentTheme, type Theme } from "./theme";

export function LanguageSwitch() {
  const t = useT();
  const me = useMe().data;
  const other = t.language === "ko" ? "en" : "ko";
  const change = async () => {
    setLanguage(other);
    if (!me) return;
    try {
      await saveLanguage(other); // so that the server's texts follow
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  return (
    <Button tone="ghost" small lang={other} aria-label={t("language.switch")} onClick={() => void change()}>
      {other === "en" ? "English" : "한국어"}
    </Button>
  );
}

export function ThemeSwitch() {
  const t = useT();
  const [theme, setTheme] = useState<Theme>(currentTheme);
  const flip = () => {
    const next = theme === "dark" ? "light" : "dark";
    applyTheme(next);
    setTheme(next);
  };
  return (
    <Button tone="ghost" small aria-label={t("theme.switch")} title={t("theme.switch")} onClick={flip}>
      {theme === "dark" ? "☾" : "☀"}
    </Button>
  );
}

export function AccountMenu() {
  const t = useT();
  const me = useMe().data;
  const queries = useQueryClient();
  const [changing, setChanging] = useState(false);
  if (!me) return null;
  const leave = async () => {
    try {
      await signOut();
    } finally {
      forgetSession(queries);
    }
  };
  return (
    <>
      <Button tone="ghost" small onClick={() => setChanging(true)} title={t("password.change")}>
        {me.name}
        <span className="hidden text-2xs text-muted sm:inline">{t.code("role", me.role)}</span>
      </Button>
      <Button tone="ghost" small onClick={() => void leave()}>
        {t("session.signOut")}
      </Button>
      {changing && <PasswordDialog onClose={() => setChanging(false)} />}
    </>
  );
}
