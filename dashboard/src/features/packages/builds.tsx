/** Builds of a package, newest first, with the log of the one that is looked at. */
import type { UseQueryResult } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { ProblemError, toProblem } from "@/api/problem";
import { useOperation } from "@/api/queries";
import type { Build, PackageVersion } from "@/api/types";
import { OperationLine, OperationLog } from "@/features/operations/drawer";
import { bytes } from "@/format/quantity";
import { span } from "@/format/time";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Empty, Panel } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { Loaded } from "@/ui/query";
import { Chip, State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago, useNow } from "@/ui/time";

export function BuildsPanel({
  query,
  versions,
}: {
  query: UseQueryResult<Build[]>;
  versions: PackageVersion[];
}) {
  const t = useT();
  const [picked, setPicked] = useState<string | null>(null);
  const builds = query.data ?? [];
  // What is being built now shows itself; otherwise what was asked for.
  const shown =
    builds.find((each) => each.id === picked) ?? builds.find((each) => each.ended_at === null);
  const columns = useMemo<Column<Build>[]>(
    () => [
      {
        id: "version",
        name: t("field.version"),
        cell: (row) => versions.find((each) => each.id === row.version_id)?.version ?? "–",
      },
      {
        id: "state",
        name: t("field.state"),
        cell: (row) => (
          <span className="inline-flex items-center gap-2">
            <State group="build.state" value={row.state} />
            {row.reused_from && <Chip>{t("build.reused")}</Chip>}
          </span>
        ),
      },
      { id: "platform", name: t("package.platforms"), cell: (row) => <Chip>{row.platform}</Chip> },
      {
        id: "took",
        name: t("build.took"),
        cell: (row) => <Took build={row} />,
      },
      {
        id: "size",
        name: t("package.size"),
        cell: (row) => (row.size_bytes > 0 ? bytes(row.size_bytes) : "–"),
      },
      {
        id: "bases",
        name: t("build.bases"),
        cell: (row) =>
          row.base_images.map((each) => (
            <p key={`${each.line}${each.source}`} className="font-mono text-2xs text-muted">
              {each.source === each.used ? each.source : `${each.source} → ${each.used}`}
            </p>
          )),
      },
      { id: "at", name: t("deployment.since"), cell: (row) => <Ago at={row.created_at} /> },
      {
        id: "log",
        name: "",
        className: "text-right",
        cell: (row) => (
          <Button small onClick={() => setPicked(row.id)}>
            {t("log.title")}
          </Button>
        ),
      },
    ],
    [t, versions],
  );
  return (
    <Panel title={t("build.title")} flush>
      <Loaded query={query}>
        {(rows) => (
          <Table
            label={t("build.title")}
            rows={rows}
            columns={columns}
            rowKey={(row) => row.id}
            empty={<Empty title={t("build.none")} hint={t("build.noneHint")} />}
          />
        )}
      </Loaded>
      {shown && <BuildLog key={shown.id} build={shown} />}
    </Panel>
  );
}

function BuildLog({ build }: { build: Build }) {
  const operation = useOperation(build.operation_id).data;
  return (
    <div className="flex flex-col gap-2 border-t border-line p-3">
      {operation && build.ended_at === null && <OperationLine operation={operation} />}
      {build.error && <ProblemNotice error={new ProblemError(toProblem(build.error, 424))} />}
      {build.operation_id && <OperationLog id={build.operation_id} />}
    </div>
  );
}

function Took({ build }: { build: Build }) {
  const now = useNow();
  if (!build.started_at) return "–";
  return span(build.started_at, build.ended_at ? Date.parse(build.ended_at) : now);
}
