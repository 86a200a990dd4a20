/** Changes of a cluster's nodes: add, remove, replace, lead to another address. */
import { useState } from "react";
import {
  addNode,
  clusterOf,
  readdressNode,
  removeNode,
  replaceNode,
  useClusters,
} from "@/api/clusters";
import { useDevices } from "@/api/queries";
import type { Cluster, Member } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import { FormDialog } from "@/ui/dialog";
import { Check, Input, Select } from "@/ui/field";
import { AllowedFields, hinders, NOTHING } from "./allowed";

type One = { cluster: Cluster; member: Member; onClose: () => void };

/** Devices that belong to no cluster. */
function useFree() {
  const clusters = useClusters().data;
  return (useDevices().data ?? []).filter((each) => clusterOf(clusters, each.id) === null);
}

export function AddNodeDialog({ cluster, onClose }: { cluster: Cluster; onClose: () => void }) {
  const t = useT();
  const { show } = useOperationsDrawer();
  const free = useFree();
  const [picked, setPicked] = useState<string[]>([]);
  const [role, setRole] = useState<Member["role"]>("worker");
  const [allowed, setAllowed] = useState(NOTHING);
  return (
    <FormDialog
      title={t("cluster.addNode")}
      action={t("action.add")}
      disabled={picked.length === 0 || hinders(allowed)}
      onClose={onClose}
      wide
      submit={async () =>
        show((await addNode(cluster.id, picked, role, allowed.consent)).operation_id)
      }
    >
      <Select
        label={t("field.role")}
        hint={t("cluster.addRoleHint")}
        value={role}
        onPick={(next) => {
          setRole(next);
          setAllowed(NOTHING);
        }}
        options={[
          ["worker", t("cluster.role.worker")],
          ["control_plane", t("cluster.role.control_plane")],
        ]}
      />
      <fieldset className="flex flex-col gap-1.5">
        <legend className="mb-1 text-xs text-muted">{t("cluster.freeDevices")}</legend>
        {free.length === 0 && <p className="text-muted">{t("cluster.noFree")}</p>}
        {free.map((each) => (
          <Check
            key={each.id}
            label={each.address ? `${each.name} (${each.address})` : each.name}
            checked={picked.includes(each.id)}
            onChange={(event) => {
              setPicked((list) =>
                event.target.checked ? [...list, each.id] : list.filter((id) => id !== each.id),
              );
              setAllowed(NOTHING);
            }}
          />
        ))}
      </fieldset>
      <AllowedFields
        key={`${role} ${picked.join()}`}
        cluster={cluster}
        asked={free.filter((each) => picked.includes(each.id))}
        role={role}
        allowed={allowed}
        onChange={setAllowed}
      />
    </FormDialog>
  );
}

export function RemoveNodeDialog({ cluster, member, onClose }: One) {
  const t = useT();
  const { show } = useOperationsDrawer();
  return (
    <FormDialog
      title={t("cluster.removeTitle", { name: member.node_name })}
      action={t("cluster.remove")}
      tone="danger"
      onClose={onClose}
      submit={async () => show((await removeNode(cluster.id, member.device_id)).operation_id)}
    >
      <p>{t("cluster.removeHint")}</p>
    </FormDialog>
  );
}

export function ReplaceNodeDialog({ cluster, member, onClose }: One) {
  const t = useT();
  const { show } = useOperationsDrawer();
  const free = useFree();
  const [next, setNext] = useState("");
  const [force, setForce] = useState(false);
  const [allowed, setAllowed] = useState(NOTHING);
  return (
    <FormDialog
      title={t("cluster.replaceTitle", { name: member.node_name })}
      action={t("cluster.replace")}
      disabled={next === "" || hinders(allowed)}
      onClose={onClose}
      wide
      submit={async () =>
        show(
          (await replaceNode(cluster.id, member.device_id, next, force, allowed.consent))
            .operation_id,
        )
      }
    >
      <p>{t("cluster.replaceHint")}</p>
      <Select
        label={t("cluster.replaceBy")}
        value={next}
        onPick={(id) => {
          setNext(id);
          setAllowed(NOTHING);
        }}
        options={[
          ["", free.length === 0 ? t("cluster.noFree") : t("field.choose")],
          ...free.map((each) => [each.id, each.name] as const),
        ]}
      />
      <Check
        label={t("cluster.replaceForce")}
        hint={t("cluster.replaceForceHint")}
        checked={force}
        onChange={(event) => setForce(event.target.checked)}
      />
      <AllowedFields
        key={next}
        cluster={cluster}
        asked={free.filter((each) => each.id === next)}
        role={member.role}
        allowed={allowed}
        onChange={setAllowed}
      />
    </FormDialog>
  );
}

export function ReaddressDialog({ cluster, member, onClose }: One) {
  const t = useT();
  const { show } = useOperationsDrawer();
  const [address, setAddress] = useState("");
  return (
    <FormDialog
      title={t("cluster.readdressTitle", { name: member.node_name })}
      action={t("cluster.readdress")}
      onClose={onClose}
      submit={async () =>
        show((await readdressNode(cluster.id, member.device_id, address.trim() || null)).operation_id)
      }
    >
      <p>{t("cluster.readdressHint")}</p>
      <Input
        label={t("cluster.newAddress")}
        hint={t("cluster.newAddressHint")}
        maxLength={255}
        placeholder={member.address}
        value={address}
        onChange={(event) => setAddress(event.target.value)}
      />
    </FormDialog>
  );
}
