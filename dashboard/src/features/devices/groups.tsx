/** Groups of devices: what is often deployed to together. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { createGroup, deleteGroup, editGroup } from "@/api/actions";
import { readGroup, useDevices, useGroups } from "@/api/queries";
import type { Group } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Check, Input } from "@/ui/field";
import { Empty, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { type Column, Table } from "@/ui/table";
import { tell } from "@/ui/toast";

type Open = { what: "add" } | { what: "edit" | "delete"; group: Group } | null;

export function GroupsPanel() {
  const t = useT();
  const groups = useGroups();
  const devices = useDevices().data;
  const operator = useMay("operator");
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const columns = useMemo<Column<Group>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => <span className="font-medium">{row.name}</span>,
      },
      {
        id: "devices",
        name: t("devices.title"),
        cell: (row) =>
          row.device_ids
            .map((id) => devices?.find((each) => each.id === id)?.name ?? id)
            .sort((a, b) => a.localeCompare(b, t.language))
            .join(", ") || "–",
      },
      {
        id: "description",
        name: t("field.description"),
        cell: (row) => <span className="text-muted">{row.description}</span>,
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          operator && (
            <span className="inline-flex gap-1.5">
              <Button small onClick={() => setOpen({ what: "edit", group: row })}>
                {t("action.edit")}
              </Button>
              <Button small tone="ghost" onClick={() => setOpen({ what: "delete", group: row })}>
                {t("action.delete")}
              </Button>
            </span>
          ),
      },
    ],
    [t, devices, operator],
  );
  const add = operator && <Button onClick={() => setOpen({ what: "add" })}>{t("groups.add")}</Button>;
  return (
    <Panel title={t("groups.title")} flush actions={add}>
      <Loaded query={groups}>
        {(rows) => (
          <Table
            label={t("groups.title")}
            rows={rows}
            columns={columns}
            rowKey={(row) => row.id}
            empty={<Empty title={t("groups.empty")} hint={t("groups.emptyHint")} />}
          />
        )}
      </Loaded>
      {open?.what === "add" && <GroupForm onClose={close} />}
      {open?.what === "edit" && <EditDialog group={open.group} onClose={close} />}
      {open?.what === "delete" && <DeleteDialog group={open.group} onClose={close} />}
    </Panel>
  );
}

/** An edit starts from what the server has now (ETag). */
function EditDialog({ group, onClose }: { group: Group; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "group", group.id],
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readGroup(group.id),
  });
  if (query.data) {
    return <GroupForm group={query.data.value} etag={query.data.etag} onClose={onClose} />;
  }
  return (
    <Dialog title={t("group.edit")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function GroupForm({ group, etag, onClose }: { group?: Group; etag?: string; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const devices = useDevices().data ?? [];
  // Of the values that were read into this form: a later reading must not renew it.
  const [readAs] = useState(etag ?? "*");
  const [name, setName] = useState(group?.name ?? "");
  const [description, setDescription] = useState(group?.description ?? "");
  const [members, setMembers] = useState<string[]>(group?.device_ids ?? []);
  const toggle = (id: string, on: boolean) =>
    setMembers((list) => (on ? [...list, id] : list.filter((each) => each !== id)));
  const submit = async () => {
    const body = { name, description, device_ids: members };
    if (group) await editGroup(group.id, readAs, body);
    else await createGroup(body);
    await queries.invalidateQueries({ queryKey: ["groups"] });
    tell(t(group ? "done.saved" : "done.added"));
  };
  return (
    <FormDialog
      title={t(group ? "group.edit" : "groups.add")}
      action={t(group ? "action.save" : "action.add")}
      onClose={onClose}
      submit={submit}
    >
      <Input
        label={t("field.name")}
        required
        autoFocus
        maxLength={128}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Input
        label={t("field.description")}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
      <fieldset className="grid gap-x-4 gap-y-1.5 sm:grid-cols-2">
        <legend className="mb-1 text-xs text-muted">{t("group.members")}</legend>
        {devices.map((each) => (
          <Check
            key={each.id}
            label={each.name}
            checked={members.includes(each.id)}
            onChange={(event) => toggle(each.id, event.target.checked)}
          />
        ))}
      </fieldset>
    </FormDialog>
  );
}

function DeleteDialog({ group, onClose }: { group: Group; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  return (
    <FormDialog
      title={t("group.deleteTitle", { name: group.name })}
      action={t("action.delete")}
      tone="danger"
      onClose={onClose}
      submit={async () => {
        await deleteGroup(group.id);
        await queries.invalidateQueries({ queryKey: ["groups"] });
        tell(t("done.deleted"));
      }}
    >
      <p>{t("group.deleteHint")}</p>
    </FormDialog>
  );
}
