import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { buildVersion, deletePackage, deleteVersion } from "@/api/actions";
import { useBuilds, useDeployments, usePackages, useVersions } from "@/api/queries";
import type { Package, PackageVersion } from "@/api/types";
import { DeploymentTable } from "@/features/deployments/table";
import { bytes, shortDigest } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip, State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { RemoveDialog } from "@/ui/remove";
import { Ago } from "@/ui/time";
import { tell, tellError } from "@/ui/toast";
import { BuildsPanel } from "./builds";
import { DeployDialog } from "./deploy";
import { PlaybookDialog } from "./playbook";
import { UploadDialog } from "./upload";

export function PackagePage() {
  const t = useT();
  const { id } = useParams({ from: "/packages/$id" });
  const packages = usePackages();
  return (
    <Loaded query={packages}>
      {(list) => {
        const found = list.find((each) => each.id === id);
        return found ? (
          <Content pack={found} />
        ) : (
          <Empty title={t("package.gone")} hint={t("package.goneHint")} />
        );
      }}
    </Loaded>
  );
}

type Open =
  | { what: "upload" }
  | { what: "deploy" | "playbook"; version: PackageVersion }
  | { what: "delete"; version?: PackageVersion }
  | null;

function Content({ pack }: { pack: Package }) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const operator = useMay("operator");
  const versions = useVersions(pack.id);
  const deployments = useDeployments();
  const [open, setOpen] = useState<Open>(null);
  const builds = useBuilds(pack.id);
  const close = () => setOpen(null);
  const used = useMemo(
    () => (deployments.data ?? []).filter((each) => each.package_id === pack.id),
    [deployments.data, pack.id],
  );
  const columns = useMemo<Column<PackageVersion>[]>(() => {
    const build = async (version: PackageVersion) => {
      try {
        await buildVersion(pack.id, version.version);
        await queries.invalidateQueries({ queryKey: ["versions"] });
        await queries.invalidateQueries({ queryKey: ["builds"] });
      } catch (error) {
        tellError(error, t("error.title"));
      }
    };
    return [
      {
        id: "version",
        name: t("field.version"),
        cell: (row) => (
          <div>
            <b className="font-mono">{row.version}</b>
            {row.notes.map((note) => (
              <p key={note.code + note.text} className="max-w-96 text-xs text-warn">
                {note.text}
              </p>
            ))}
          </div>
        ),
      },
      {
        id: "build",
        name: t("package.build"),
        cell: (row) => <State group="build.state" value={row.build_state} />,
      },
      {
        id: "platforms",
        name: t("package.platforms"),
        cell: (row) => row.platforms.map((each) => <Chip key={each}>{each}</Chip>),
      },
      {
        id: "size",
        name: t("package.size"),
        sort: (row) => row.size_bytes,
        cell: (row) => bytes(row.size_bytes),
      },
      {
        id: "digest",
        name: t("package.image"),
        cell: (row) => (
          <code className="font-mono text-xs text-muted" title={row.image_digest ?? ""}>
            {shortDigest(row.image_digest)}
          </code>
        ),
      },
      {
        id: "created",
        name: t("package.uploaded"),
        sort: (row) => row.created_at,
        cell: (row) => <Ago at={row.created_at} />,
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) => (
          <span className="inline-flex gap-1.5">
            {operator && row.build_state !== "built" && (
              <Button small busy={row.build_state === "building"} onClick={() => void build(row)}>
                {t("package.buildAction")}
              </Button>
            )}
            {operator && row.build_state === "built" && (
              <Button small tone="primary" onClick={() => setOpen({ what: "deploy", version: row })}>
                {t("deploy.action")}
              </Button>
            )}
            {operator && row.build_state === "built" && (
              <Button small onClick={() => setOpen({ what: "playbook", version: row })}>
                {t("playbook.open")}
              </Button>
            )}
            <a
              href={`/api/v1/packages/${pack.id}/versions/${encodeURIComponent(row.version)}/zip`}
              download
              className="inline-flex h-7 items-center rounded-md px-2 text-xs text-muted hover:bg-raised hover:text-text"
            >
              {t("package.download")}
            </a>
            {operator && (
              <Button small tone="ghost" onClick={() => setOpen({ what: "delete", version: row })}>
                {t("action.delete")}
              </Button>
            )}
          </span>
        ),
      },
    ];
  }, [t, pack.id, operator, queries]);
  return (
    <Page
      above={<Link to="/packages">{t("packages.title")}</Link>}
      title={
        <>
          {pack.name}
          <span className="text-base font-normal text-muted">
            {t.language === "ko" ? pack.title_ko : pack.title_en}
          </span>
        </>
      }
      actions={
        operator && (
          <>
            <Button tone="primary" onClick={() => setOpen({ what: "upload" })}>
              {t("package.newVersion")}
            </Button>
            <Button tone="danger" onClick={() => setOpen({ what: "delete" })}>
              {t("action.delete")}
            </Button>
          </>
        )
      }
    >
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_20rem]">
        <Panel title={t("package.versions")} flush>
          <Loaded query={versions}>
            {(rows) => (
              <Table
                label={t("package.versions")}
                rows={rows}
                columns={columns}
                rowKey={(row) => row.id}
                empty={<Empty title={t("package.noVersion")} hint={t("packages.emptyHint")} />}
              />
            )}
          </Loaded>
        </Panel>
        <Panel title={t("package.about")}>
          <Facts
            rows={[
              [t("field.description"), pack.description || "–"],
              [t("package.author"), pack.author || "–"],
              [
                t("package.classes"),
                pack.classes.length === 0
                  ? "–"
                  : pack.classes.map((each) => (
                      <span key={each} className="mr-1">
                        <Chip>{each}</Chip>
                      </span>
                    )),
              ],
              ["ID", <code key="i" className="font-mono text-xs">{pack.id}</code>],
            ]}
          />
        </Panel>
      </div>
      <BuildsPanel query={builds} versions={versions.data ?? []} />
      <Panel title={t("package.deployedOn")} flush>
        <Loaded query={deployments}>
          {() => (
            <DeploymentTable
              deployments={used}
              without={["package"]}
              empty={<Empty title={t("package.notDeployed")} hint={t("package.notDeployedHint")} />}
            />
          )}
        </Loaded>
      </Panel>
      {open?.what === "upload" && <UploadDialog name={pack.name} onClose={close} />}
      {open?.what === "deploy" && <DeployDialog version={open.version} onClose={close} />}
      {open?.what === "playbook" && <PlaybookDialog version={open.version} onClose={close} />}
      {open?.what === "delete" && (
        <RemoveDialog
          title={t("package.deleteTitle", {
            name: open.version ? `${pack.name}:${open.version.version}` : pack.name,
          })}
          hint={t("package.deleteHint")}
          forceLabel={t("package.force")}
          forceHint={t("package.forceHint")}
          onClose={close}
          remove={async (force) => {
            if (open.version) {
              await deleteVersion(pack.id, open.version.version, force);
            } else {
              await deletePackage(pack.id, force);
              await navigate({ to: "/packages" });
            }
            await queries.invalidateQueries({ queryKey: ["packages"] });
            await queries.invalidateQueries({ queryKey: ["versions"] });
            tell(t("done.deleted"));
          }}
        />
      )}
    </Page>
  );
}
