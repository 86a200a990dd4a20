/** The site's own facts, what base images stand for, and the registry's space. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useMemo, useState } from "react";
import { collectRegistry, editSite, mapBaseImage, unmapBaseImage } from "@/api/actions";
import { readSite, useBaseImages, useRegistry } from "@/api/queries";
import type { BaseImage, Site } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { bytes } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Input } from "@/ui/field";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { tell, tellError } from "@/ui/toast";
import { ServerSettings } from "./server";
import { TransferPanel } from "./transfer";

export function SettingsPage() {
  const t = useT();
  const site = useQuery({ queryKey: ["edit", "site"], queryFn: readSite, gcTime: 0 });
  return (
    <Page title={t("nav.settings")}>
      <div className="grid items-start gap-4 xl:grid-cols-2">
        <Panel title={t("settings.site")}>
          <Loaded query={site}>
            {({ value, etag }) => <SiteForm key={etag} site={value} etag={etag} />}
          </Loaded>
        </Panel>
        <RegistryPanel />
        <TransferPanel />
        <BaseImagesPanel />
        <ServerSettings />
      </div>
    </Page>
  );
}

function SiteForm({ site, etag }: { site: Site; etag: string }) {
  const t = useT();
  const queries = useQueryClient();
  const operator = useMay("operator");
  const [name, setName] = useState(site.name);
  const [postal, setPostal] = useState(site.postal_address);
  const [description, setDescription] = useState(site.description);
  const [timezone, setTimezone] = useState(site.timezone);
  const [error, setError] = useState<unknown>(null);
  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setError(null);
    try {
      await editSite(etag, { name, postal_address: postal, description, timezone });
      await queries.invalidateQueries({ queryKey: ["site"] });
      await queries.invalidateQueries({ queryKey: ["edit", "site"] });
      tell(t("done.saved"));
    } catch (failure) {
      setError(failure);
    }
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      <fieldset disabled={!operator} className="flex flex-col gap-3">
        <Input label={t("settings.siteName")} required value={name} onChange={(event) => setName(event.target.value)} />
        <Input label={t("field.postalAddress")} value={postal} onChange={(event) => setPostal(event.target.value)} />
        <Input label={t("field.description")} value={description} onChange={(event) => setDescription(event.target.value)} />
        <Input
          label={t("settings.timezone")}
          hint={t("settings.timezoneHint")}
          required
          value={timezone}
          onChange={(event) => setTimezone(event.target.value)}
        />
        {error !== null && <ProblemNotice error={error} />}
        <div>
          <Button type="submit" tone="primary">
            {t("action.save")}
          </Button>
        </div>
      </fieldset>
    </form>
  );
}

function RegistryPanel() {
  const t = useT();
  const query = useRegistry();
  const operator = useMay("operator");
  const { show } = useOperationsDrawer();
  const collect = async () => {
    try {
      show((await collectRegistry()).operation_id);
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  return (
    <Panel
      title={t("settings.registry")}
      actions={
        operator && (
          <Button small onClick={() => void collect()}>
            {t("settings.collect")}
          </Button>
        )
      }
    >
      <Loaded query={query}>
        {(registry) => (
          <Facts
            rows={[
              [
                t("field.state"),
                <State
                  key="s"
                  group="registry"
                  value={registry.read_only ? "collecting" : registry.running ? "running" : "stopped"}
                />,
              ],
              [t("settings.used"), bytes(registry.used_bytes)],
              [t("settings.free"), `${bytes(registry.disk_free_bytes)} / ${bytes(registry.disk_total_bytes)}`],
              ...registry.repositories.map(
                (each) =>
                  [
                    <code key={each.name} className="font-mono text-xs">{each.name}</code>,
                    `${bytes(each.size_bytes)} · ${t("settings.tags", { count: each.tags.length })}`,
                  ] as [React.ReactNode, string],
              ),
            ]}
          />
        )}
      </Loaded>
      <p className="mt-2 text-xs text-muted">{t("settings.registryHint")}</p>
    </Panel>
  );
}

function BaseImagesPanel() {
  const t = useT();
  const queries = useQueryClient();
  const query = useBaseImages();
  const operator = useMay("operator");
  const [adding, setAdding] = useState(false);
  const columns = useMemo<Column<BaseImage>[]>(() => {
    const unmap = async (source: string) => {
      try {
        await unmapBaseImage(source);
        await queries.invalidateQueries({ queryKey: ["base-images"] });
      } catch (error) {
        tellError(error, t("error.title"));
      }
    };
    return [
      { id: "source", name: t("settings.source"), cell: (row) => <code className="font-mono text-xs">{row.source}</code> },
      { id: "target", name: t("settings.target"), cell: (row) => <code className="font-mono text-xs">{row.target}</code> },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          operator && (
            <Button small tone="ghost" onClick={() => void unmap(row.source)}>
              {t("action.delete")}
            </Button>
          ),
      },
    ];
  }, [t, operator, queries]);
  const add = operator && (
    <Button small onClick={() => setAdding(true)}>
      {t("settings.mapAdd")}
    </Button>
  );
  return (
    <Panel title={t("settings.baseImages")} flush actions={add} className="xl:col-span-2">
      <p className="px-3 pt-2 text-muted">{t("settings.baseImagesHint")}</p>
      <Loaded query={query}>
        {(rows) => (
          <Table
            label={t("settings.baseImages")}
            rows={rows}
            columns={columns}
            rowKey={(row) => row.source}
            empty={<Empty title={t("settings.mapEmpty")} hint={t("settings.mapEmptyHint")} />}
          />
        )}
      </Loaded>
      {adding && <MapDialog onClose={() => setAdding(false)} />}
    </Panel>
  );
}

function MapDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [source, setSource] = useState("");
  const [target, setTarget] = useState("");
  return (
    <FormDialog
      title={t("settings.mapAdd")}
      action={t("action.add")}
      onClose={onClose}
      submit={async () => {
        await mapBaseImage(source.trim(), target.trim());
        await queries.invalidateQueries({ queryKey: ["base-images"] });
        tell(t("done.added"));
      }}
    >
      <Input label={t("settings.source")} hint={t("settings.sourceHint")} required autoFocus placeholder="python:3.11-slim" value={source} onChange={(event) => setSource(event.target.value)} />
      <Input label={t("settings.target")} hint={t("settings.targetHint")} required value={target} onChange={(event) => setTarget(event.target.value)} />
    </FormDialog>
  );
}
