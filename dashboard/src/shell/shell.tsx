/** The frame of every page: who is signed in, where one is, whether the stream lives. */
import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { problemOf } from "@/api/problem";
import { useMe, useSite } from "@/api/queries";
import { PasswordPage, SignInPage } from "@/features/session/pages";
import { OperationsButton } from "@/features/operations/drawer";
import { OperationsProvider } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import type { PlainKey } from "@/i18n/catalogue";
import { StreamProvider } from "@/stream/react";
import { Button } from "@/ui/button";
import { Empty } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { Skeleton } from "@/ui/query";
import { Toasts } from "@/ui/toast";
import { AccountMenu, LanguageSwitch, ThemeSwitch } from "./account";
import { Connection } from "./connection";
import { useMay } from "./role";

export function Shell() {
  const me = useMe();
  if (me.isPending) return <Skeleton rows={4} />;
  if (me.isError && problemOf(me.error).status !== 401) {
    return (
      <div className="mx-auto max-w-xl p-8">
        <ProblemNotice error={me.error} retry={() => void me.refetch()} />
      </div>
    );
  }
  if (!me.data) return <SignInPage />;
  if (me.data.must_change_password) return <PasswordPage />;
  return (
    <StreamProvider>
      <OperationsProvider>
        <Frame>
          <Outlet />
        </Frame>
        <Toasts />
      </OperationsProvider>
    </StreamProvider>
  );
}

const NAV: { to: string; name: PlainKey; icon: string; admin?: boolean }[] = [
  { to: "/", name: "nav.site", icon: "M3 11 12 4l9 7v9h-6v-6H9v6H3z" },
  { to: "/cameras", name: "nav.cameras", icon: "M3 7h12v10H3zM15 11l6-3v8l-6-3z" },
  { to: "/devices", name: "nav.devices", icon: "M5 5h14v14H5zM9 9h6v6H9zM2 9h3M2 15h3M19 9h3M19 15h3M9 2v3M15 2v3M9 19v3M15 19v3" },
  { to: "/clusters", name: "nav.clusters", icon: "M12 3l4 2.3v4.6L12 12l-4-2.1V5.3zM6 13l4 2.2v4.5L6 22l-4-2.3v-4.5zM18 13l4 2.2v4.5L18 22l-4-2.3v-4.5z" },
  { to: "/packages", name: "nav.packages", icon: "M4 8l8-4 8 4v8l-8 4-8-4zM4 8l8 4 8-4M12 12v8" },
  { to: "/deployments", name: "nav.deployments", icon: "M12 3v12M7 10l5 5 5-5M4 20h16" },
  { to: "/schedules", name: "nav.schedules", icon: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2" },
  { to: "/results", name: "nav.results", icon: "M4 20V10M10 20V4M16 20v-8M21 20H3" },
  { to: "/users", name: "nav.users", icon: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-5 4-7 8-7s8 2 8 7", admin: true },
  { to: "/tokens", name: "nav.tokens", icon: "M14 10a4 4 0 1 1-3-3l9-0v4h-3v3h-3z" },
  { to: "/audit", name: "nav.audit", icon: "M6 3h9l4 4v14H6zM9 11h7M9 15h7", admin: true },
  { to: "/settings", name: "nav.settings", icon: "M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M8 14v6" },
];

function Frame({ children }: { children: ReactNode }) {
  const t = useT();
  const admin = useMay("admin");
  const site = useSite().data;
  const [open, setOpen] = useState(false);
  return (
    <div className="grid min-h-screen grid-cols-1 md:grid-cols-[12.5rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only z-50 rounded bg-accent px-3 py-1 text-accent-ink focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        {t("nav.skip")}
      </a>
      <nav
        aria-label={t("nav.main")}
        className={`${open ? "flex" : "hidden"} sticky top-0 z-10 max-h-screen flex-col gap-0.5 border-r border-line bg-panel p-2 md:flex md:h-screen`}
      >
        <Link to="/" className="mb-2 flex items-center gap-2 rounded px-2 py-1.5">
          <img src="/haechi.svg" alt="" className="size-6" />
          <span className="text-lg leading-none font-bold tracking-tight">haechi</span>
        </Link>
        {NAV.filter((item) => !item.admin || admin).map((item) => (
          <Link
            key={item.to}
            to={item.to}
            activeOptions={{ exact: item.to === "/" }}
            onClick={() => setOpen(false)}
            className="flex items-center gap-2.5 rounded-md px-2 py-1.5 text-muted hover:bg-raised hover:text-text"
            activeProps={{ className: "bg-raised !text-text font-semibold", "aria-current": "page" }}
          >
            <svg viewBox="0 0 24 24" aria-hidden className="size-4 shrink-0 fill-none stroke-current stroke-2">
              <path d={item.icon} strokeLinejoin="round" strokeLinecap="round" />
            </svg>
            {t(item.name)}
          </Link>
        ))}
      </nav>
      <div className="flex min-w-0 flex-col">
        <header className="sticky top-0 z-20 flex h-11 items-center gap-2 border-b border-line bg-panel/95 px-3 backdrop-blur">
          <Button
            tone="ghost"
            small
            className="md:hidden"
            aria-expanded={open}
            aria-label={t("nav.main")}
            onClick={() => setOpen(!open)}
          >
            ☰
          </Button>
          <span className="truncate font-semibold">{site?.name ?? ""}</span>
          <div className="ml-auto flex items-center gap-1.5">
            <Connection />
            <OperationsButton />
            <ThemeSwitch />
            <LanguageSwitch />
            <AccountMenu />
          </div>
        </header>
        <main id="content" tabIndex={-1} className="min-w-0 flex-1 outline-none">
          {children}
        </main>
      </div>
    </div>
  );
}

export function NotFound() {
  const t = useT();
  const navigate = useNavigate();
  return (
    <Empty
      title={t("error.noPage")}
      hint={t("error.noPageHint")}
      action={<Button onClick={() => void navigate({ to: "/" })}>{t("nav.site")}</Button>}
    />
  );
}
