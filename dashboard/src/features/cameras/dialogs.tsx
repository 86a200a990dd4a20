import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { assign, createCamera, editCamera, moveAssignment } from "@/api/actions";
import { readCamera, useDeployments, useDevices } from "@/api/queries";
import type { Assignment, Camera, Deployment } from "@/api/types";
import { gpsText, parseGps } from "@/format/gps";
import { splitLogin } from "@/format/rtsp";
import { useT } from "@/i18n/react";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Area, GpsInput, Input, Select } from "@/ui/field";
import { Loaded } from "@/ui/query";
import { tell } from "@/ui/toast";

export function CameraDialog({ camera, onClose }: { camera?: Camera; onClose: () => void }) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "camera", camera?.id],
    enabled: camera !== undefined,
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readCamera(camera?.id ?? ""),
  });
  if (!camera) return <CameraForm onClose={onClose} />;
  if (query.data) {
    return <CameraForm camera={query.data.value} etag={query.data.etag} onClose={onClose} />;
  }
  return (
    <Dialog title={t("camera.edit")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function CameraForm({
  camera,
  etag,
  onClose,
}: {
  camera?: Camera;
  etag?: string;
  onClose: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const devices = useDevices().data ?? [];
  // Of the values that were read into this form: a later reading must not renew it.
  const [readAs] = useState(etag ?? "*");
  const [name, setName] = useState(camera?.name ?? "");
  const [device, setDevice] = useState(camera?.device_id ?? "");
  const [url, setUrl] = useState(camera?.url ?? "");
  const [subUrl, setSubUrl] = useState(camera?.sub_url ?? "");
  const [login, setLogin] = useState(camera?.login ?? "");
  const [password, setPassword] = useState("");
  const [postal, setPostal] = useState(camera?.postal_address ?? "");
  const [gps, setGps] = useState(gpsText(camera?.gps));
  const [description, setDescription] = useState(camera?.description ?? "");
  const take = (text: string, keep: (url: string) => void) => {
    const split = splitLogin(text);
    keep(split.url);
    if (split.login !== null) setLogin(split.login);
    if (split.password !== null) setPassword(split.password);
  };
  const submit = async () => {
    const body = {
      name,
      device_id: device || null,
      url,
      sub_url: subUrl || null,
      login: login || null,
      postal_address: postal,
      gps: parseGps(gps),
      description,
      // Write-only: an empty field leaves the stored one alone.
      ...(password ? { password } : {}),
    };
    if (camera) await editCamera(camera.id, readAs, body);
    else await createCamera(body);
    await queries.invalidateQueries({ queryKey: ["cameras"] });
    tell(t(camera ? "done.saved" : "done.added"));
  };
  return (
    <FormDialog
      title={t(camera ? "camera.edit" : "cameras.add")}
      action={t(camera ? "action.save" : "action.add")}
      onClose={onClose}
      submit={submit}
      wide
    >
      <div className="grid gap-3 sm:grid-cols-2">
        <Input
          label={t("field.name")}
          required
          autoFocus
          placeholder={t("camera.namePlaceholder")}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
        <Select
          label={t("camera.homeDevice")}
          hint={t("camera.homeDeviceHint")}
          value={device}
          onPick={setDevice}
          options={[["", t("field.none")], ...devices.map((each) => [each.id, each.name] as const)]}
        />
      </div>
      <Input
        label={t("camera.url")}
        hint={t("camera.urlHint")}
        required
        spellCheck={false}
        placeholder="rtsp://…/axis-media/media.amp"
        value={url}
        onChange={(event) => setUrl(event.target.value)}
        onBlur={(event) => take(event.target.value, setUrl)}
      />
      <Input
        label={t("camera.subUrl")}
        hint={t("camera.subUrlHint")}
        spellCheck={false}
        value={subUrl}
        onChange={(event) => setSubUrl(event.target.value)}
        onBlur={(event) => take(event.target.value, setSubUrl)}
      />
      <div className="grid gap-3 sm:grid-cols-2">
        <Input
          label={t("camera.login")}
          autoComplete="off"
          value={login}
          onChange={(event) => setLogin(event.target.value)}
        />
        <Input
          label={t("camera.password")}
          hint={t(camera?.has_password ? "camera.passwordKept" : "camera.passwordHint")}
          type="password"
          autoComplete="new-password"
          placeholder={camera?.has_password ? "••••••••" : ""}
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
      </div>
      <div className="grid gap-3 sm:grid-cols-2">
        <Input
          label={t("field.postalAddress")}
          value={postal}
          onChange={(event) => setPostal(event.target.value)}
        />
        <GpsInput value={gps} onValue={setGps} />
      </div>
      <Area
        label={t("field.description")}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
    </FormDialog>
  );
}

function deploymentName(each: Deployment): string {
  return `${each.device_name} — ${each.package_name}:${each.version}`;
}

/** Hand a camera to a deployment. */
export function AssignDialog({ camera, onClose }: { camera: Camera; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const running = (useDeployments().data ?? []).filter((each) => each.desired_state === "running");
  const [picked, setPicked] = useState("");
  const [fps, setFps] = useState("5");
  const [stream, setStream] = useState<"main" | "sub">("sub");
  const submit = async () => {
    await assign({
      camera_id: camera.id,
      deployment_id: picked,
      mode: "watch",
      fps: Number(fps),
      stream,
    });
    await queries.invalidateQueries({ queryKey: ["assignments"] });
    tell(t("done.assigned"));
  };
  return (
    <FormDialog
      title={t("assign.title", { name: camera.name })}
      action={t("assign.action")}
      onClose={onClose}
      submit={submit}
      disabled={!picked}
    >
      <Select
        label={t("assign.deployment")}
        hint={running.length === 0 ? t("assign.noneRunning") : undefined}
        value={picked}
        onPick={setPicked}
        options={[
          ["", t("field.choose")],
          ...running.map((each) => [each.id, deploymentName(each)] as const),
        ]}
      />
      <div className="grid grid-cols-2 gap-3">
        <Input
          label={t("assign.fps")}
          type="number"
          min={0.1}
          max={60}
          step="any"
          required
          value={fps}
          onChange={(event) => setFps(event.target.value)}
        />
        <Select
          label={t("assign.stream")}
          value={stream}
          onPick={setStream}
          options={[
            ["sub", t("assign.sub")],
            ["main", t("assign.main")],
          ]}
        />
      </div>
    </FormDialog>
  );
}

/** Move a camera to another device: a new assignment, nothing is restarted. */
export function MoveDialog({
  assignment,
  name,
  onClose,
}: {
  assignment: Assignment;
  name: string;
  onClose: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const deployments = useDeployments().data ?? [];
  const from = deployments.find((each) => each.id === assignment.deployment_id);
  const others = deployments.filter(
    (each) =>
      each.id !== assignment.deployment_id &&
      each.package_id === from?.package_id &&
      each.desired_state === "running",
  );
  const [picked, setPicked] = useState("");
  const submit = async () => {
    await moveAssignment(assignment.id, picked);
    await queries.invalidateQueries({ queryKey: ["assignments"] });
    tell(t("done.moved"));
  };
  return (
    <FormDialog
      title={t("assign.moveTitle", { name })}
      action={t("assign.move")}
      onClose={onClose}
      submit={submit}
      disabled={!picked}
    >
      <p className="text-muted">{t("assign.moveHint")}</p>
      {from && (
        <p>
          {t("assign.now")}: <b>{deploymentName(from)}</b>
        </p>
      )}
      <Select
        label={t("assign.to")}
        hint={others.length === 0 ? t("assign.noOther") : undefined}
        value={picked}
        onPick={setPicked}
        options={[
          ["", t("field.choose")],
          ...others.map((each) => [each.id, deploymentName(each)] as const),
        ]}
      />
    </FormDialog>
  );
}
