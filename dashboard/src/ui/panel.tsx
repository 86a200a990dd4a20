import type { ReactNode } from "react";
import { cx } from "./cx";

export function Page({
  title,
  above,
  actions,
  children,
}: {
  title: ReactNode;
  above?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <div className="mx-auto flex w-full max-w-[2400px] flex-col gap-4 p-4">
      <header className="flex flex-wrap items-end gap-3">
        <div className="min-w-0">
          {above && <div className="text-xs text-muted">{above}</div>}
          <h1 className="flex flex-wrap items-center gap-3 text-xl font-semibold">{title}</h1>
        </div>
        {actions && <div className="ml-auto flex flex-wrap gap-2">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

export function Panel({
  title,
  actions,
  children,
  flush,
  className,
}: {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  /** No inner margin: tables and pictures reach the edges. */
  flush?: boolean;
  className?: string;
}) {
  return (
    <section className={cx("min-w-0 rounded-lg border border-line bg-panel", className)}>
      {title && (
        <div className="flex min-h-10 flex-wrap items-center gap-2 border-b border-line px-3 py-1">
          <h2 className="font-semibold">{title}</h2>
          {actions && <div className="ml-auto flex flex-wrap items-center gap-1.5">{actions}</div>}
        </div>
      )}
      <div className={flush ? "" : "p-3"}>{children}</div>
    </section>
  );
}

/** Says what is not there and what to do next. */
export function Empty({ title, hint, action }: { title: string; hint?: string; action?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-2 px-4 py-10 text-center">
      <p className="font-medium">{title}</p>
      {hint && <p className="max-w-prose text-muted">{hint}</p>}
      {action && <div className="mt-1">{action}</div>}
    </div>
  );
}

export function Facts({ rows }: { rows: [name: ReactNode, value: ReactNode][] }) {
  return (
    <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1">
      {rows.map(([name, value], index) => (
        <div key={index} className="col-span-2 grid grid-cols-subgrid">
          <dt className="text-muted">{name}</dt>
          <dd className="min-w-0">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Figure({ name, value, tone }: { name: string; value: ReactNode; tone?: string }) {
  return (
    <div className="min-w-28 rounded-lg border border-line bg-panel px-3 py-2">
      <div className="text-xs text-muted">{name}</div>
      <div className={cx("text-2xl leading-tight font-semibold tabular-nums", tone)}>{value}</div>
    </div>
  );
}

export function Tabs<T extends string>({
  value,
  options,
  onChange,
  label,
}: {
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (next: T) => void;
  label: string;
}) {
  return (
    <div role="radiogroup" aria-label={label} className="inline-flex rounded-md border border-line p-0.5">
      {options.map(([key, name]) => (
        <button
          key={key}
          type="button"
          role="radio"
          aria-checked={key === value}
          onClick={() => onChange(key)}
          className={cx(
            "rounded px-2 py-0.5 text-xs",
            key === value ? "bg-raised font-semibold text-text" : "text-muted hover:text-text",
          )}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

export function Progress({ ratio, label }: { ratio: number | null; label: string }) {
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={ratio === null ? undefined : Math.round(ratio * 100)}
      className="h-1.5 w-full overflow-hidden rounded bg-raised"
    >
      <div
        className={cx("h-full rounded bg-accent transition-[width]", ratio === null && "animate-pulse")}
        style={{ width: ratio === null ? "100%" : `${Math.min(100, ratio * 100)}%` }}
      />
    </div>
  );
}
