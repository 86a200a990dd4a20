import type { ButtonHTMLAttributes } from "react";
import { cx } from "./cx";

type Tone = "plain" | "primary" | "danger" | "ghost";
const TONES: Record<Tone, string> = {
  plain: "border-line bg-raised hover:border-muted text-text",
  primary: "border-accent bg-accent text-accent-ink hover:brightness-110 font-semibold",
  danger: "border-bad/60 bg-bad/10 text-bad hover:bg-bad/20",
  ghost: "border-transparent text-muted hover:bg-raised hover:text-text",
};

export type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  tone?: Tone;
  small?: boolean;
  busy?: boolean;
};

export function Button({ tone = "plain", small, busy, className, children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      disabled={rest.disabled || busy}
      aria-busy={busy || undefined}
      className={cx(
        "inline-flex shrink-0 items-center justify-center gap-1.5 rounded-md border whitespace-nowrap transition-colors",
        "disabled:cursor-not-allowed disabled:opacity-50",
        small ? "h-7 px-2 text-xs" : "h-8 px-3",
        TONES[tone],
        className,
      )}
    >
      {busy && <Spinner />}
      {children}
    </button>
  );
}

export function Spinner() {
  return (
    <span
      aria-hidden
      className="size-3 animate-spin rounded-full border-2 border-current border-t-transparent"
    />
  );
}
