/** Every setting of the server with where its value comes from; some can be changed here. */
import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { changeSetting } from "@/api/actions";
import { useSettings } from "@/api/queries";
import type { Setting } from "@/api/types";
import { parseLike } from "@/format/setting";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Input } from "@/ui/field";
import { Empty, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { tell } from "@/ui/toast";

export function ServerSettings() {
  const t = useT();
  const admin = useMay("admin");
  const query = useSettings(admin);
  const [editing, setEditing] = useState<Setting | null>(null);
  const columns = useMemo<Column<Setting>[]>(
    () => [
      {
        id: "key",
        name: t("settings.key"),
        sort: (row) => row.key,
        cell: (row) => (
          <div>
            <code className="font-mono text-xs">{row.key}</code>
            <p className="max-w-prose text-2xs text-muted">{row.description}</p>
          </div>
        ),
      },
      {
        id: "value",
        name: t("settings.value"),
        cell: (row) => (
          <span className="inline-flex flex-wrap items-center gap-1.5">
            <code className="font-mono text-xs">{shown(row.value)}</code>
            {row.pending !== null && row.pending !== undefined && (
              <Chip tone="warn">{t("settings.pending", { value: shown(row.pending) })}</Chip>
            )}
          </span>
        ),
      },
      {
        id: "origin",
        name: t("settings.origin"),
        sort: (row) => row.origin,
        cell: (row) => t.code("settings.from", row.origin),
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          row.changeable && (
            <Button small onClick={() => setEditing(row)}>
              {t("action.edit")}
            </Button>
          ),
      },
    ],
    [t],
  );
  if (!admin) return null;
  return (
    <Panel title={t("settings.server")} flush className="xl:col-span-2">
      <Loaded query={query} rows={8}>
        {(rows) => (
          <Table
            label={t("settings.server")}
            rows={rows}
            columns={columns}
            rowKey={(row) => row.key}
            empty={<Empty title={t("settings.none")} />}
          />
        )}
      </Loaded>
      {editing && <SettingDialog setting={editing} onClose={() => setEditing(null)} />}
    </Panel>
  );
}

function SettingDialog({ setting, onClose }: { setting: Setting; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [value, setValue] = useState(shown(setting.pending ?? setting.value));
  const save = async (next: string | number | boolean | null) => {
    await changeSetting(setting.key, next);
    await queries.invalidateQueries({ queryKey: ["settings"] });
    tell(t("settings.changed"));
  };
  return (
    <FormDialog
      title={setting.key}
      action={t("action.save")}
      onClose={onClose}
      submit={() => save(value === "" ? null : parseLike(setting.value, value))}
    >
      <p className="text-muted">{setting.description}</p>
      <Input
        label={t("settings.value")}
        hint={t("settings.valueHint")}
        autoFocus
        value={value}
        onChange={(event) => setValue(event.target.value)}
      />
    </FormDialog>
  );
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
