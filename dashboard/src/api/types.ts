/** Names of the API's shapes as the pages use them; the only place that names schema components. */
import type { components } from "./schema";

type S = components["schemas"];

export type Me = S["MeOut"];
export type Role = Me["role"];
export type Site = S["SiteOut"];
export type Device = S["DeviceOut"];
export type DeviceIn = S["DeviceIn"];
export type Enrolment = S["EnrolmentOut"];
export type Camera = S["CameraOut"];
export type CameraIn = S["CameraIn"];
export type Package = S["PackageOut"];
export type PackageVersion = S["VersionOut"];
export type Build = S["BuildOut"];
export type Deployment = S["DeploymentOut"];
export type DeployIn = S["DeployIn"];
export type Assignment = S["AssignmentOut"];
export type AssignmentIn = S["AssignIn"];
export type Operation = S["OperationOut"];
export type OperationState = Operation["state"];
/** The boxes as arrays: the client does not carry tuples through; `seenOf` checks their length. */
export type Result = Omit<S["ResultOut"], "objects"> & {
  objects: (Omit<S["ObjectOut"], "box"> & { box: number[] })[];
};
export type SummaryBucket = S["BucketOut"];
export type User = S["UserOut"];
export type UserIn = S["UserIn"];
export type Token = S["TokenOut"];
export type AuditEntry = S["AuditEntryOut"];
export type Setting = S["SettingOut"];
export type BaseImage = S["BaseImageOut"];
export type Registry = S["RegistryOut"];

/** RFC 9457 as CONTRACTS 1 has it. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  remedy: string;
  data: Record<string, unknown>;
  request_id?: string | null;
  operation_id?: string | null;
};

/** One object that an AI saw; box is [x, y, w, h] in 0-1 from the top left. */
export type Seen = {
  box: [number, number, number, number];
  class: string;
  class_prob: number;
  track?: string | number | null;
};

/** One second of a device (CONTRACTS 4); rolled-up rows leave out what has no mean. */
export type Sample = {
  at: string;
  cpu_ratio: number;
  memory_used_bytes: number;
  memory_total_bytes: number;
  disk_free_bytes?: number | null;
  temperature_c?: number | null;
  net?: { wifi_dbm?: number | null; loss_ratio?: number | null; rtt_ms?: number | null } | null;
  containers?: ContainerSample[] | null;
};
export type ContainerSample = {
  deployment_id: string;
  cpu_ratio: number;
  memory_bytes: number;
  restarts?: number;
  frame_lag_ms?: number | null;
};
