/** Deploy a version to devices. Opened from a version, a package, or a device. */
import { useMemo, useState } from "react";
import { deploy } from "@/api/actions";
import { usePackages, useVersions } from "@/api/queries";
import type { DeployIn, PackageVersion } from "@/api/types";
import { hasTargets, NO_TARGETS, TargetFields, type Targets } from "@/features/deployments/targets";
import { useOperationsDrawer } from "@/features/operations/context";
import { parseEnvironment } from "@/format/environment";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { FormDialog } from "@/ui/dialog";
import { Area, Check, Input, Select } from "@/ui/field";

type Strategy = NonNullable<DeployIn["strategy"]>;
type Allowance = NonNullable<DeployIn["allow"]>[number];
const ALLOWANCES: Allowance[] = ["internet", "privileged"];

export function DeployDialog({
  version,
  device_id,
  onClose,
}: {
  version?: PackageVersion;
  device_id?: string;
  onClose: () => void;
}) {
  const t = useT();
  const { show } = useOperationsDrawer();
  const admin = useMay("admin");
  const packages = usePackages().data ?? [];
  const [package_id, setPackage] = useState(version?.package_id ?? "");
  const [version_id, setVersion] = useState(version?.id ?? "");
  const [targets, setTargets] = useState<Targets>({
    ...NO_TARGETS,
    device_ids: device_id ? [device_id] : [],
  });
  const [strategy, setStrategy] = useState<Strategy | "">("");
  const [environment, setEnvironment] = useState("");
  const [assign, setAssign] = useState(true);
  const [fps, setFps] = useState("5");
  const [stream, setStream] = useState<"main" | "sub">("sub");
  const [allow, setAllow] = useState<Allowance[]>([]);
  const parsed = useMemo(() => parseEnvironment(environment), [environment]);
  const submit = async () => {
    const { operation_id } = await deploy({
      version_id,
      ...targets,
      ...(strategy ? { strategy } : {}),
      environment: parsed.values,
      cameras: { assign, fps: Number(fps), stream },
      allow,
    });
    show(operation_id);
  };
  return (
    <FormDialog
      title={version ? t("deploy.of", { name: `${version.package_name}:${version.version}` }) : t("deploy.title")}
      action={t("deploy.action")}
      onClose={onClose}
      submit={submit}
      disabled={!version_id || !hasTargets(targets) || parsed.bad.length > 0}
      wide
    >
      {!version && (
        <div className="grid gap-3 sm:grid-cols-2">
          <Select
            label={t("field.package")}
            value={package_id}
            onPick={(id) => {
              setPackage(id);
              setVersion("");
            }}
            options={[
              ["", t("field.choose")],
              ...packages.map((each) => [each.id, each.name] as const),
            ]}
          />
          {package_id && <VersionSelect package_id={package_id} value={version_id} onPick={setVersion} />}
        </div>
      )}
      <TargetFields value={targets} onValue={setTargets} />
      <Select
        label={t("deploy.strategy")}
        hint={t("deploy.strategyHint")}
        value={strategy}
        onPick={setStrategy}
        options={[
          ["", t("deploy.auto")],
          ["overlap", t("strategy.overlap")],
          ["recreate", t("strategy.recreate")],
        ]}
      />
      <fieldset className="grid items-end gap-3 sm:grid-cols-3">
        <Check
          label={t("deploy.assign")}
          hint={t("deploy.assignHint")}
          checked={assign}
          onChange={(event) => setAssign(event.target.checked)}
        />
        <Input
          label={t("assign.fps")}
          type="number"
          min={0.1}
          max={60}
          step="any"
          disabled={!assign}
          value={fps}
          onChange={(event) => setFps(event.target.value)}
        />
        <Select
          label={t("assign.stream")}
          disabled={!assign}
          value={stream}
          onPick={setStream}
          options={[
            ["sub", t("assign.sub")],
            ["main", t("assign.main")],
          ]}
        />
      </fieldset>
      <Area
        label={t("deploy.environment")}
        hint={
          parsed.bad.length > 0 ? (
            <span className="text-bad">{t("deploy.environmentBad", { lines: parsed.bad.join(", ") })}</span>
          ) : (
            t("deploy.environmentHint")
          )
        }
        spellCheck={false}
        className="font-mono text-xs"
        placeholder="THRESHOLD=0.5"
        value={environment}
        onChange={(event) => setEnvironment(event.target.value)}
      />
      <fieldset className="flex flex-wrap gap-x-6 gap-y-1">
        <legend className="mb-1 text-xs text-muted">{t("deploy.allow")}</legend>
        {ALLOWANCES.filter((each) => each !== "privileged" || admin).map((each) => (
          <Check
            key={each}
            label={t.code("deploy.allow", each)}
            checked={allow.includes(each)}
            onChange={(event) =>
              setAllow((list) =>
                event.target.checked ? [...list, each] : list.filter((one) => one !== each),
              )
            }
          />
        ))}
      </fieldset>
    </FormDialog>
  );
}

export function VersionSelect({
  package_id,
  value,
  onPick,
}: {
  package_id: string;
  value: string;
  onPick: (id: string) => void;
}) {
  const t = useT();
  const versions = useVersions(package_id).data ?? [];
  return (
    <Select
      label={t("field.version")}
      value={value}
      onPick={onPick}
      options={[
        ["", t("field.choose")],
        ...versions.map(
          (each) =>
            [
              each.id,
              `${each.version}${each.build_state === "built" ? "" : ` (${t.code("build.state", each.build_state)})`}`,
            ] as const,
        ),
      ]}
    />
  );
}
