/** Rename a cluster, and delete it after its name has been typed. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { deleteCluster, editCluster, readCluster } from "@/api/clusters";
import type { Cluster } from "@/api/types";
import { useT } from "@/i18n/react";
import { ConfirmByName } from "@/ui/confirm";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Input } from "@/ui/field";
import { Loaded } from "@/ui/query";
import { tell } from "@/ui/toast";

/** An edit starts from what the server has now (ETag). */
export function RenameDialog({ cluster, onClose }: { cluster: Cluster; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "cluster", cluster.id],
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readCluster(cluster.id),
  });
  if (query.data) {
    return <RenameForm cluster={query.data.value} etag={query.data.etag} onClose={onClose} />;
  }
  return (
    <Dialog title={t("cluster.rename")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function RenameForm({ cluster, etag, onClose }: { cluster: Cluster; etag: string; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [readAs] = useState(etag);
  const [name, setName] = useState(cluster.name);
  return (
    <FormDialog
      title={t("cluster.rename")}
      action={t("action.save")}
      onClose={onClose}
      submit={async () => {
        await editCluster(cluster.id, readAs, name);
        await queries.invalidateQueries({ queryKey: ["clusters"] });
        tell(t("done.saved"));
      }}
    >
      <Input
        label={t("field.name")}
        hint={t("cluster.renameHint")}
        required
        autoFocus
        maxLength={128}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
    </FormDialog>
  );
}

export function DeleteClusterDialog({ cluster, onClose }: { cluster: Cluster; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  return (
    <ConfirmByName
      title={t("cluster.deleteTitle", { name: cluster.name })}
      name={cluster.name}
      action={t("action.delete")}
      onClose={onClose}
      submit={async () => {
        await deleteCluster(cluster.id);
        await queries.invalidateQueries({ queryKey: ["clusters"] });
      }}
    >
      <p>{t("cluster.deleteHint")}</p>
    </ConfirmByName>
  );
}
