import { useMemo } from "react";
import { useCameras, useDevices } from "@/api/queries";
import type { Result } from "@/api/types";
import { boxColor, countClasses, seenOf } from "@/format/boxes";
import { useT } from "@/i18n/react";
import { Empty } from "@/ui/panel";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Clock } from "@/ui/time";

export function ResultTable({ rows, without }: { rows: Result[]; without?: ("camera" | "device")[] }) {
  const t = useT();
  const cameras = useCameras().data;
  const devices = useDevices().data;
  const hidden = without?.join() ?? "";
  const columns = useMemo<Column<Result>[]>(() => {
    const all: Column<Result>[] = [
      {
        id: "at",
        name: t("result.at"),
        className: "whitespace-nowrap",
        cell: (row) => (
          <span className="inline-flex items-center gap-1.5">
            <Clock at={row.captured_at ?? row.received_at} full={hidden === ""} />
            {row.clock !== "ok" && <Chip tone="warn">{t("result.clockUncertain")}</Chip>}
          </span>
        ),
      },
      {
        id: "camera",
        name: t("field.camera"),
        cell: (row) => cameras?.find((each) => each.id === row.camera_id)?.name ?? row.camera_id ?? "–",
      },
      {
        id: "seen",
        name: t("result.seen"),
        cell: (row) => <SeenCell row={row} />,
      },
      {
        id: "ai",
        name: "AI",
        cell: (row) => (
          <span>
            {row.package_name}:{row.version}
          </span>
        ),
      },
      {
        id: "device",
        name: t("field.device"),
        cell: (row) => devices?.find((each) => each.id === row.device_id)?.name ?? row.device_id,
      },
      {
        id: "took",
        name: t("result.took"),
        className: "text-right",
        cell: (row) => (typeof row.took_ms === "number" ? `${row.took_ms.toFixed(1)} ms` : "–"),
      },
      {
        id: "delay",
        name: t("result.delay"),
        className: "text-right",
        cell: (row) => {
          const ms = Date.parse(row.stored_at ?? "") - Date.parse(row.captured_at ?? "");
          return Number.isFinite(ms) ? `${ms} ms` : "–";
        },
      },
    ];
    return all.filter((column) => !hidden.split(",").includes(column.id));
  }, [t, cameras, devices, hidden]);
  return (
    <Table
      label={t("results.title")}
      rows={rows}
      columns={columns}
      rowKey={(row) => String(row.id)}
      empty={<Empty title={t("results.empty")} hint={t("results.emptyHint")} />}
    />
  );
}

function SeenCell({ row }: { row: Result }) {
  const t = useT();
  const counts = countClasses(seenOf(row));
  if (counts.length === 0 && !row.class) {
    return <span className="text-muted">{t("camera.nothingSeen")}</span>;
  }
  return (
    <span className="flex flex-wrap gap-x-3">
      {row.class && (
        <span>
          {row.class}{" "}
          {typeof row.class_prob === "number" && (
            <span className="text-muted">{row.class_prob.toFixed(2)}</span>
          )}
        </span>
      )}
      {counts.map(([name, count]) => (
        <span key={name} className="inline-flex items-center gap-1">
          <span aria-hidden className="size-2 rounded-sm" style={{ background: boxColor(name) }} />
          {name} {count}
        </span>
      ))}
    </span>
  );
}
