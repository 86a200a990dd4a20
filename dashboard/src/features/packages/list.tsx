import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useDeployments, usePackages } from "@/api/queries";
import type { Package } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { UploadDialog } from "./upload";

export function PackagesPage() {
  const t = useT();
  const packages = usePackages();
  const deployments = useDeployments().data;
  const operator = useMay("operator");
  const [uploading, setUploading] = useState(false);
  const columns = useMemo<Column<Package>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <Link to="/packages/$id" params={{ id: row.id }} className="hover:underline">
            <span className="font-medium">{row.name}</span>
            <span className="ml-2 text-muted">
              {(t.language === "ko" ? row.title_ko : row.title_en) || ""}
            </span>
          </Link>
        ),
      },
      { id: "latest", name: t("package.latest"), cell: (row) => row.latest_version ?? "–" },
      {
        id: "versions",
        name: t("package.versions"),
        sort: (row) => row.version_count,
        cell: (row) => row.version_count,
      },
      {
        id: "deployed",
        name: t("package.deployedOn"),
        cell: (row) =>
          deployments
            ?.filter((each) => each.package_id === row.id)
            .map((each) => `${each.device_name} (${each.version})`)
            .join(", ") || "–",
      },
      {
        id: "classes",
        name: t("package.classes"),
        cell: (row) => (
          <span className="flex flex-wrap gap-1">
            {row.classes.slice(0, 6).map((each) => (
              <Chip key={each}>{each}</Chip>
            ))}
          </span>
        ),
      },
      {
        id: "updated",
        name: t("field.updatedAt"),
        sort: (row) => row.updated_at,
        cell: (row) => <Ago at={row.updated_at} />,
      },
    ],
    [t, deployments],
  );
  const upload = operator && (
    <Button tone="primary" onClick={() => setUploading(true)}>
      {t("upload.title")}
    </Button>
  );
  return (
    <Page title={t("packages.title")} actions={upload}>
      <Panel flush>
        <Loaded query={packages}>
          {(rows) => (
            <Table
              label={t("packages.title")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("packages.empty")} hint={t("packages.emptyHint")} action={upload} />}
            />
          )}
        </Loaded>
      </Panel>
      {uploading && <UploadDialog onClose={() => setUploading(false)} />}
    </Page>
  );
}
