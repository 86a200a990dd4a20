import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { createUser, deleteUser, editUser } from "@/api/actions";
import { readUser, useMe, useUsers } from "@/api/queries";
import type { Role, User } from "@/api/types";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Check, Input, Select } from "@/ui/field";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { Ago } from "@/ui/time";
import { tell } from "@/ui/toast";

export const ROLES = ["viewer", "operator", "admin"] as const;

type Open = { what: "add" } | { what: "edit" | "delete"; user: User } | null;

export function UsersPage() {
  const t = useT();
  const users = useUsers();
  const me = useMe().data;
  const queries = useQueryClient();
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const columns = useMemo<Column<User>[]>(
    () => [
      {
        id: "name",
        name: t("field.name"),
        sort: (row) => row.name,
        cell: (row) => (
          <span className="inline-flex items-center gap-2">
            <b className="font-medium">{row.name}</b>
            {row.id === me?.id && <Chip tone="info">{t("users.me")}</Chip>}
            {row.disabled && <Chip tone="bad">{t("users.disabled")}</Chip>}
          </span>
        ),
      },
      {
        id: "role",
        name: t("users.role"),
        sort: (row) => row.role,
        cell: (row) => t.code("role", row.role),
      },
      {
        id: "last",
        name: t("users.lastLogin"),
        sort: (row) => row.last_login_at,
        cell: (row) => (row.last_login_at ? <Ago at={row.last_login_at} /> : "–"),
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) => (
          <span className="inline-flex gap-1.5">
            <Button small onClick={() => setOpen({ what: "edit", user: row })}>
              {t("action.edit")}
            </Button>
            {row.id !== me?.id && (
              <Button small tone="ghost" onClick={() => setOpen({ what: "delete", user: row })}>
                {t("action.delete")}
              </Button>
            )}
          </span>
        ),
      },
    ],
    [t, me],
  );
  return (
    <Page
      title={t("nav.users")}
      actions={
        <Button tone="primary" onClick={() => setOpen({ what: "add" })}>
          {t("users.add")}
        </Button>
      }
    >
      <Panel flush>
        <Loaded query={users}>
          {(rows) => (
            <Table
              label={t("nav.users")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("users.empty")} />}
            />
          )}
        </Loaded>
      </Panel>
      {open?.what === "add" && <AddDialog onClose={close} />}
      {open?.what === "edit" && <EditDialog user={open.user} onClose={close} />}
      {open?.what === "delete" && (
        <FormDialog
          title={t("users.deleteTitle", { name: open.user.name })}
          action={t("action.delete")}
          tone="danger"
          onClose={close}
          submit={async () => {
            await deleteUser(open.user.id);
            await queries.invalidateQueries({ queryKey: ["users"] });
            tell(t("done.deleted"));
          }}
        >
          <p>{t("users.deleteHint")}</p>
        </FormDialog>
      )}
    </Page>
  );
}

function AddDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>("operator");
  return (
    <FormDialog
      title={t("users.add")}
      action={t("action.add")}
      onClose={onClose}
      submit={async () => {
        await createUser({ name, password, role });
        await queries.invalidateQueries({ queryKey: ["users"] });
        tell(t("done.added"));
      }}
    >
      <Input label={t("field.name")} required autoFocus autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />
      <Input
        label={t("users.firstPassword")}
        hint={t("users.firstPasswordHint")}
        type="password"
        required
        autoComplete="new-password"
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <RoleSelect value={role} onPick={setRole} />
    </FormDialog>
  );
}

export function RoleSelect({ value, onPick }: { value: Role; onPick: (role: Role) => void }) {
  const t = useT();
  return (
    <Select
      label={t("users.role")}
      hint={t.code("role.hint", value)}
      value={value}
      onPick={onPick}
      options={ROLES.map((each) => [each, t.code("role", each)] as const)}
    />
  );
}

function EditDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "user", user.id],
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readUser(user.id),
  });
  if (query.data) return <EditForm user={query.data.value} etag={query.data.etag} onClose={onClose} />;
  return (
    <Dialog title={t("users.edit")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function EditForm({ user, etag, onClose }: { user: User; etag: string; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [readAs] = useState(etag);
  const [role, setRole] = useState<Role>(user.role);
  const [disabled, setDisabled] = useState(user.disabled);
  const [password, setPassword] = useState("");
  return (
    <FormDialog
      title={`${t("users.edit")}: ${user.name}`}
      action={t("action.save")}
      onClose={onClose}
      submit={async () => {
        await editUser(user.id, readAs, { role, disabled, ...(password ? { password } : {}) });
        await queries.invalidateQueries({ queryKey: ["users"] });
        tell(t("done.saved"));
      }}
    >
      <RoleSelect value={role} onPick={setRole} />
      <Input
        label={t("users.newPassword")}
        hint={t("users.newPasswordHint")}
        type="password"
        autoComplete="new-password"
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Check
        label={t("users.disable")}
        hint={t("users.disableHint")}
        checked={disabled}
        onChange={(event) => setDisabled(event.target.checked)}
      />
    </FormDialog>
  );
}
