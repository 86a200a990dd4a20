/** A log that follows its end unless the reader has scrolled up. */
import { useEffect, useRef } from "react";
import { useT } from "@/i18n/react";
import { cx } from "./cx";

export function LogView({ lines, className }: { lines: string[]; className?: string }) {
  const t = useT();
  const ref = useRef<HTMLPreElement>(null);
  const follow = useRef(true);
  useEffect(() => {
    const box = ref.current;
    if (box && follow.current) box.scrollTop = box.scrollHeight;
  }, [lines]);
  return (
    <pre
      ref={ref}
      role="log"
      aria-label={t("log.title")}
      tabIndex={0}
      onScroll={(event) => {
        const box = event.currentTarget;
        follow.current = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
      }}
      className={cx(
        "h-72 overflow-auto rounded-md border border-line bg-bg p-2 font-mono text-xs leading-5 whitespace-pre-wrap",
        className,
      )}
    >
      {lines.length === 0 ? <span className="text-muted">{t("log.empty")}</span> : lines.join("\n")}
    </pre>
  );
}
