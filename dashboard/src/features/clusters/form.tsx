/** Form a cluster of devices: choose, check all hosts at once, see the plan, then form. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { checkCluster, clusterOf, formCluster, planCluster, useClusters, type Wanted } from "@/api/clusters";
import { useDevices } from "@/api/queries";
import type { ClusterCheck, ClusterPlan, Device, FormOptions } from "@/api/types";
import { hindering } from "@/format/hosts";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Check, Input, Select } from "@/ui/field";
import { Tabs } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { CheckView } from "./check";
import { PlanView } from "./plan";

type Part = "none" | "control_plane" | "worker";
type Looked = { what: "check"; check: ClusterCheck } | { what: "plan"; plan: ClusterPlan } | null;

export function FormClusterDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const devices = useDevices().data ?? [];
  const [name, setName] = useState("");
  const [parts, setParts] = useState<Record<string, Part>>({});
  const [podCidr, setPodCidr] = useState("10.244.0.0/16");
  const [source, setSource] = useState<NonNullable<FormOptions["source"]>>("bundle");
  const [runAi, setRunAi] = useState(false);
  const [clean, setClean] = useState(false);
  const [accept, setAccept] = useState<string[]>([]);
  const [looked, setLooked] = useState<Looked>(null);
  const [looking, setLooking] = useState<"check" | "plan" | null>(null);
  const [error, setError] = useState<unknown>(null);

  const taking = (part: Part) => devices.filter((each) => parts[each.id] === part);
  const asked = [...taking("control_plane"), ...taking("worker")];
  const wanted: Wanted = {
    name,
    control_plane_ids: taking("control_plane").map((each) => each.id),
    worker_ids: taking("worker").map((each) => each.id),
    options: { pod_cidr: podCidr, source, run_ai_on_control_plane: runAi, clean_leftovers: clean, accept },
  };
  /** What was seen is of other hosts or options then. */
  const changed = () => {
    setLooked(null);
    setError(null);
  };
  const look = async (what: "check" | "plan") => {
    setLooking(what);
    changed();
    try {
      if (what === "check") setLooked({ what, check: await checkCluster(wanted) });
      else setLooked({ what, plan: await planCluster(wanted) });
    } catch (failure) {
      setError(failure);
    } finally {
      setLooking(null);
    }
  };
  const hinders = looked?.what === "check" ? hindering(looked.check, accept).length : 0;
  const none = wanted.control_plane_ids.length === 0;
  return (
    <FormDialog
      title={t("clusters.form")}
      action={t("cluster.formAction")}
      onClose={onClose}
      disabled={none || hinders > 0 || looking !== null}
      wide
      submit={async () => {
        const { cluster_id } = await formCluster(wanted);
        await queries.invalidateQueries({ queryKey: ["clusters"] });
        await navigate({ to: "/clusters/$id", params: { id: cluster_id } });
      }}
    >
      <Input
        label={t("field.name")}
        required
        autoFocus
        maxLength={128}
        placeholder={t("cluster.namePlaceholder")}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <DeviceParts
        devices={devices}
        parts={parts}
        onPick={(id, part) => {
          setParts((known) => ({ ...known, [id]: part }));
          changed();
        }}
      />
      <div className="grid gap-3 sm:grid-cols-2">
        <Input
          label={t("cluster.podCidr")}
          hint={t("cluster.podCidrHint")}
          required
          pattern="[0-9.]{7,15}/[0-9]{1,2}"
          value={podCidr}
          onChange={(event) => {
            setPodCidr(event.target.value);
            changed();
          }}
        />
        <Select
          label={t("cluster.source")}
          hint={t("cluster.sourceHint")}
          value={source}
          onPick={(next) => {
            setSource(next);
            changed();
          }}
          options={[
            ["bundle", t("cluster.source.bundle")],
            ["distribution", t("cluster.source.distribution")],
          ]}
        />
        <Check
          label={t("cluster.runAi")}
          hint={t("cluster.runAiHint")}
          checked={runAi}
          onChange={(event) => {
            setRunAi(event.target.checked);
            changed();
          }}
        />
        <Check
          label={t("cluster.clean")}
          hint={t("cluster.cleanHint")}
          checked={clean}
          onChange={(event) => {
            setClean(event.target.checked);
            changed();
          }}
        />
      </div>
      <div className="flex flex-wrap items-center gap-2">
        <Button busy={looking === "check"} disabled={none || looking !== null} onClick={() => void look("check")}>
          {t("cluster.check")}
        </Button>
        <Button
          busy={looking === "plan"}
          disabled={none || !name || looking !== null}
          onClick={() => void look("plan")}
        >
          {t("cluster.plan")}
        </Button>
        <p className="text-2xs text-muted">{t("cluster.checkHint")}</p>
      </div>
      {error !== null && <ProblemNotice error={error} />}
      {looked?.what === "check" && (
        <CheckView check={looked.check} asked={asked} accept={accept} onAccept={setAccept} />
      )}
      {looked?.what === "plan" && <PlanView plan={looked.plan} />}
    </FormDialog>
  );
}

/** What each device is to be. One that belongs to a cluster already says to which. */
function DeviceParts({
  devices,
  parts,
  onPick,
}: {
  devices: Device[];
  parts: Record<string, Part>;
  onPick: (id: string, part: Part) => void;
}) {
  const t = useT();
  const clusters = useClusters().data;
  return (
    <fieldset>
      <legend className="mb-1 text-xs text-muted">{t("cluster.hosts")}</legend>
      {devices.length === 0 && <p className="text-muted">{t("cluster.noDevice")}</p>}
      <ul className="max-h-64 divide-y divide-line/60 overflow-y-auto rounded-md border border-line">
        {devices.map((each) => {
          const held = clusterOf(clusters, each.id);
          return (
            <li key={each.id} className="flex flex-wrap items-center gap-x-3 gap-y-1 px-3 py-1.5">
              <span className="font-medium">{each.name}</span>
              <span className="font-mono text-xs text-muted">
                {each.address ?? t("cluster.noAddress")}
              </span>
              <span className="ml-auto">
                {held ? (
                  <span className="text-xs text-muted">{t("cluster.heldBy", { name: held.cluster.name })}</span>
                ) : (
                  <Tabs
                    label={t("cluster.roleOf", { name: each.name })}
                    value={parts[each.id] ?? "none"}
                    onChange={(part) => onPick(each.id, part)}
                    options={[
                      ["none", t("field.none")],
                      ["control_plane", t("cluster.role.control_plane")],
                      ["worker", t("cluster.role.worker")],
                    ]}
                  />
                )}
              </span>
            </li>
          );
        })}
      </ul>
    </fieldset>
  );
}
