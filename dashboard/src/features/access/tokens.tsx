import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { createToken, deleteToken } from "@/api/actions";
import { useTokens } from "@/api/queries";
import type { Role, Token } from "@/api/types";
import { CopyBox } from "@/features/devices/dialogs";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Input, Select } from "@/ui/field";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { type Column, Table } from "@/ui/table";
import { Ago, Clock } from "@/ui/time";
import { tell } from "@/ui/toast";
import { RoleSelect } from "./users";

export function TokensPage() {
  const t = useT();
  const admin = useMay("admin");
  const tokens = useTokens(admin);
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  const [ending, setEnding] = useState<Token | null>(null);
  const columns = useMemo<Column<Token>[]>(
    () => [
      { id: "name", name: t("field.name"), sort: (row) => row.name, cell: (row) => <b className="font-medium">{row.name}</b> },
      { id: "user", name: t("tokens.user"), sort: (row) => row.user_name, cell: (row) => row.user_name },
      { id: "role", name: t("users.role"), cell: (row) => t.code("role", row.role) },
      { id: "created", name: t("field.createdAt"), sort: (row) => row.created_at, cell: (row) => <Clock at={row.created_at} full /> },
      { id: "expires", name: t("tokens.expires"), cell: (row) => (row.expires_at ? <Clock at={row.expires_at} full /> : t("tokens.never")) },
      { id: "used", name: t("tokens.lastUsed"), sort: (row) => row.last_used_at, cell: (row) => (row.last_used_at ? <Ago at={row.last_used_at} /> : "–") },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) => (
          <Button small tone="ghost" onClick={() => setEnding(row)}>
            {t("tokens.revoke")}
          </Button>
        ),
      },
    ],
    [t],
  );
  const add = (
    <Button tone="primary" onClick={() => setAdding(true)}>
      {t("tokens.add")}
    </Button>
  );
  return (
    <Page title={t("nav.tokens")} actions={add}>
      <Panel flush>
        <Loaded query={tokens}>
          {(rows) => (
            <Table
              label={t("nav.tokens")}
              rows={rows}
              columns={columns}
              rowKey={(row) => row.id}
              empty={<Empty title={t("tokens.empty")} hint={t("tokens.emptyHint")} action={add} />}
            />
          )}
        </Loaded>
      </Panel>
      {adding && <AddDialog onClose={() => setAdding(false)} onMade={setSecret} />}
      {secret !== null && (
        <Dialog title={t("tokens.madeTitle")} onClose={() => setSecret(null)} wide>
          <p className="mb-3">{t("tokens.madeHint")}</p>
          <CopyBox text={secret} />
        </Dialog>
      )}
      {ending && (
        <FormDialog
          title={t("tokens.revokeTitle", { name: ending.name })}
          action={t("tokens.revoke")}
          tone="danger"
          onClose={() => setEnding(null)}
          submit={async () => {
            await deleteToken(ending.id);
            await queries.invalidateQueries({ queryKey: ["tokens"] });
            tell(t("done.revoked"));
          }}
        >
          <p>{t("tokens.revokeHint")}</p>
        </FormDialog>
      )}
    </Page>
  );
}

function AddDialog({ onClose, onMade }: { onClose: () => void; onMade: (secret: string) => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [days, setDays] = useState("90");
  return (
    <FormDialog
      title={t("tokens.add")}
      action={t("action.add")}
      onClose={onClose}
      submit={async () => {
        const made = await createToken(
          name,
          role,
          days ? new Date(Date.now() + Number(days) * 86_400_000).toISOString() : null,
        );
        await queries.invalidateQueries({ queryKey: ["tokens"] });
        onMade(made.secret);
      }}
    >
      <Input
        label={t("field.name")}
        hint={t("tokens.nameHint")}
        required
        autoFocus
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <RoleSelect value={role} onPick={setRole} />
      <Select
        label={t("tokens.expires")}
        value={days}
        onPick={setDays}
        options={[
          ...["7", "30", "90", "365"].map((each) => [each, t("tokens.days", { days: each })] as const),
          ["", t("tokens.never")],
        ]}
      />
    </FormDialog>
  );
}
