import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { createDevice, editDevice, enrolDevice } from "@/api/actions";
import { readDevice } from "@/api/queries";
import type { Device, Enrolment } from "@/api/types";
import { gpsText, parseGps } from "@/format/gps";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Area, GpsInput, Input, Select } from "@/ui/field";
import { ProblemNotice } from "@/ui/problem";
import { Loaded, Skeleton } from "@/ui/query";
import { Ago } from "@/ui/time";
import { tell } from "@/ui/toast";

/** Add a device, or edit the one given. An edit starts from what the server has now (ETag). */
export function DeviceDialog({
  device,
  onClose,
  onDone,
}: {
  device?: Device;
  onClose: () => void;
  onDone?: (device: Device) => void;
}) {
  const t = useT();
  const query = useQuery({
    queryKey: ["edit", "device", device?.id],
    enabled: device !== undefined,
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => readDevice(device?.id ?? ""),
  });
  if (!device) return <DeviceForm onClose={onClose} onDone={onDone} />;
  if (query.data) {
    return (
      <DeviceForm device={query.data.value} etag={query.data.etag} onClose={onClose} onDone={onDone} />
    );
  }
  return (
    <Dialog title={t("device.edit")} onClose={onClose}>
      <Loaded query={query}>{() => null}</Loaded>
    </Dialog>
  );
}

function DeviceForm({
  device,
  etag,
  onClose,
  onDone,
}: {
  device?: Device;
  etag?: string;
  onClose: () => void;
  onDone?: ((device: Device) => void) | undefined;
}) {
  const t = useT();
  const queries = useQueryClient();
  // Of the values that were read into this form: a later reading must not renew it.
  const [readAs] = useState(etag ?? "*");
  const [name, setName] = useState(device?.name ?? "");
  const [role, setRole] = useState<Device["role"]>(device?.role ?? "edge");
  const [address, setAddress] = useState(device?.address ?? "");
  const [hostName, setHostName] = useState(device?.host_name ?? "");
  const [postal, setPostal] = useState(device?.postal_address ?? "");
  const [gps, setGps] = useState(gpsText(device?.gps));
  const [sshUser, setSshUser] = useState(device?.ssh_user ?? "");
  const [sshPassword, setSshPassword] = useState("");
  const [sshKey, setSshKey] = useState("");
  const [description, setDescription] = useState(device?.description ?? "");
  const submit = async () => {
    const body = {
      name,
      role,
      address: address || null,
      host_name: hostName || null,
      postal_address: postal,
      gps: parseGps(gps),
      ssh_user: sshUser || null,
      // Write-only: an empty field leaves the stored one alone.
      ...(sshPassword ? { ssh_password: sshPassword } : {}),
      ...(sshKey.trim() ? { ssh_key: `${sshKey.trim()}\n` } : {}),
      description,
    };
    const done = device ? await editDevice(device.id, readAs, body) : await createDevice(body);
    await queries.invalidateQueries({ queryKey: ["devices"] });
    tell(t(device ? "done.saved" : "done.added"));
    onDone?.(done);
  };
  return (
    <FormDialog
      title={t(device ? "device.edit" : "devices.add")}
      action={t(device ? "action.save" : "action.add")}
      onClose={onClose}
      submit={submit}
      wide
    >
      <Input
        label={t("field.name")}
        required
        autoFocus
        maxLength={128}
        placeholder={t("device.namePlaceholder")}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <div className="grid grid-cols-2 gap-3">
        <Select
          label={t("field.role")}
          hint={t("device.roleHint")}
          value={role}
          onPick={setRole}
          options={(["edge", "analysis", "server"] as const).map((each) => [
            each,
            t.code("device.role", each),
          ])}
        />
        <Input
          label={t("field.address")}
          hint={t("device.addressHint")}
          value={address}
          onChange={(event) => setAddress(event.target.value)}
        />
      </div>
      <div className="grid grid-cols-2 gap-3">
        <Input
          label={t("device.hostName")}
          hint={t("device.hostNameHint")}
          pattern="[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?"
          value={hostName}
          onChange={(event) => setHostName(event.target.value)}
        />
        <Input
          label={t("field.postalAddress")}
          value={postal}
          onChange={(event) => setPostal(event.target.value)}
        />
      </div>
      <GpsInput value={gps} onValue={setGps} />
      <fieldset className="flex flex-col gap-3">
        <legend className="mb-1 text-xs text-muted">{t("device.ssh")}</legend>
        <div className="grid grid-cols-2 gap-3">
          <Input
            label={t("device.sshUser")}
            hint={t("device.sshHint")}
            autoComplete="off"
            maxLength={64}
            value={sshUser}
            onChange={(event) => setSshUser(event.target.value)}
          />
          <Input
            label={t("device.sshPassword")}
            hint={t(device?.has_ssh_password ? "camera.passwordKept" : "camera.passwordHint")}
            type="password"
            autoComplete="new-password"
            placeholder={device?.has_ssh_password ? "••••••••" : ""}
            value={sshPassword}
            onChange={(event) => setSshPassword(event.target.value)}
          />
        </div>
        <Area
          label={t("device.sshKey")}
          hint={t(device?.has_ssh_key ? "device.sshKeyKept" : "device.sshKeyHint")}
          spellCheck={false}
          autoComplete="off"
          className="font-mono text-xs"
          value={sshKey}
          onChange={(event) => setSshKey(event.target.value)}
        />
      </fieldset>
      <Area
        label={t("field.description")}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
    </FormDialog>
  );
}

/** The one-time token and the command that uses it; asked for once, when the dialog opens. */
export function EnrolDialog({ device, onClose }: { device: Device; onClose: () => void }) {
  const t = useT();
  const asked = useRef(false);
  const [made, setMade] = useState<Enrolment | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    if (asked.current) return;
    asked.current = true;
    enrolDevice(device.id).then(setMade, setError);
  }, [device.id]);
  return (
    <Dialog title={t("device.enrolTitle", { name: device.name })} onClose={onClose} wide>
      {error !== null && <ProblemNotice error={error} />}
      {made ? (
        <div className="flex flex-col gap-3">
          <p>{t("device.enrolHow")}</p>
          <CopyBox text={made.command} />
          <p className="text-muted">
            {t("device.enrolExpires")} <Ago at={made.expires_at} />
          </p>
        </div>
      ) : (
        error === null && <Skeleton rows={3} />
      )}
    </Dialog>
  );
}

export function CopyBox({ text }: { text: string }) {
  const t = useT();
  const ref = useRef<HTMLTextAreaElement>(null);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS there is no clipboard: selected text can be copied by key.
      ref.current?.select();
      return;
    }
    setCopied(true);
  };
  return (
    <div className="flex items-start gap-2">
      <textarea
        ref={ref}
        readOnly
        rows={3}
        aria-label={t("device.command")}
        value={text}
        onFocus={(event) => event.currentTarget.select()}
        className="min-w-0 flex-1 rounded-md border border-line bg-bg p-2 font-mono text-xs break-all"
      />
      <Button onClick={() => void copy()}>{copied ? t("action.copied") : t("action.copy")}</Button>
    </div>
  );
}
