/** Ansible playbooks of one version for a group's Docker hosts, as a zip. */
import { useState } from "react";
import { download } from "@/api/download";
import { useGroups } from "@/api/queries";
import type { PackageVersion } from "@/api/types";
import { useT } from "@/i18n/react";
import { FormDialog } from "@/ui/dialog";
import { Select } from "@/ui/field";

export function PlaybookDialog({ version, onClose }: { version: PackageVersion; onClose: () => void }) {
  const t = useT();
  const groups = useGroups().data ?? [];
  const [group, setGroup] = useState("");
  const name = `${version.package_name}-${version.version}`;
  return (
    <FormDialog
      title={t("playbook.title", { name: `${version.package_name}:${version.version}` })}
      action={t("playbook.action")}
      disabled={group === ""}
      onClose={onClose}
      submit={async () => {
        const query = new URLSearchParams({
          package: version.package_id,
          version: version.version,
          group,
        });
        await download(`/api/v1/playbooks?${query.toString()}`, `${name}-playbooks.zip`);
      }}
    >
      <p>{t("playbook.hint")}</p>
      <Select
        label={t("deploy.group")}
        hint={groups.length === 0 ? t("playbook.noGroup") : undefined}
        value={group}
        onPick={setGroup}
        options={[
          ["", t("field.choose")],
          ...groups.map((each) => [each.id, each.name] as const),
        ]}
      />
    </FormDialog>
  );
}
