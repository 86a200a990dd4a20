import {
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  type TextareaHTMLAttributes,
  useId,
} from "react";
import { GPS_PATTERN } from "@/format/gps";
import { useT } from "@/i18n/react";
import { cx } from "./cx";

const BOX =
  "w-full rounded-md border border-line bg-bg px-2.5 text-text placeholder:text-muted/60 disabled:opacity-50";

function Labelled({
  label,
  hint,
  id,
  children,
  className,
}: {
  label: string;
  hint?: ReactNode;
  id: string;
  children: ReactNode;
  className?: string;
}) {
  return (
    <div className={cx("flex min-w-0 flex-col gap-1", className)}>
      <label htmlFor={id} className="text-xs text-muted">
        {label}
      </label>
      {children}
      {hint && <p className="text-2xs text-muted">{hint}</p>}
    </div>
  );
}

type Own = { label: string; hint?: ReactNode; wrap?: string };

export function Input({ label, hint, wrap, ...rest }: Own & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <Labelled label={label} hint={hint} id={id} className={wrap ?? ""}>
      <input id={id} {...rest} className={cx(BOX, "h-8", rest.className)} />
    </Labelled>
  );
}

/** Coordinates in one field, as maps give them to copy. */
export function GpsInput({ value, onValue }: { value: string; onValue: (next: string) => void }) {
  const t = useT();
  return (
    <Input
      label={t("field.gps")}
      hint={t("field.gpsHint")}
      pattern={GPS_PATTERN}
      placeholder="37.5665, 126.9780"
      value={value}
      onChange={(event) => onValue(event.target.value)}
    />
  );
}

export function Area({
  label,
  hint,
  wrap,
  ...rest
}: Own & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  return (
    <Labelled label={label} hint={hint} id={id} className={wrap ?? ""}>
      <textarea id={id} rows={3} {...rest} className={cx(BOX, "py-1.5", rest.className)} />
    </Labelled>
  );
}

export function Select<T extends string>({
  label,
  hint,
  wrap,
  options,
  value,
  onPick,
  ...rest
}: Own &
  Omit<SelectHTMLAttributes<HTMLSelectElement>, "value"> & {
    options: readonly (readonly [T, string])[];
    value: T;
    onPick: (next: T) => void;
  }) {
  const id = useId();
  return (
    <Labelled label={label} hint={hint} id={id} className={wrap ?? ""}>
      <select
        id={id}
        value={value}
        onChange={(event) => onPick(event.target.value as T)}
        {...rest}
        className={cx(BOX, "h-8 pr-6", rest.className)}
      >
        {options.map(([key, name]) => (
          <option key={key} value={key}>
            {name}
          </option>
        ))}
      </select>
    </Labelled>
  );
}

export function Check({
  label,
  hint,
  ...rest
}: Own & Omit<InputHTMLAttributes<HTMLInputElement>, "type">) {
  return (
    <label className="flex items-start gap-2">
      <input type="checkbox" {...rest} className="mt-0.5 size-4 accent-(--c-accent)" />
      <span>
        {label}
        {hint && <span className="block text-2xs text-muted">{hint}</span>}
      </span>
    </label>
  );
}
