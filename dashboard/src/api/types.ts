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
export type Group = S["GroupOut"];
export type GroupIn = S["GroupIn"];
export type CameraLink = S["LinkOut"];
export type CameraLinkIn = S["LinkIn"];
export type Imported = S["ImportOut"];
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
export type Cluster = S["ClusterOut"];
export type Member = S["MemberOut"];
export type ClusterHealth = S["HealthOut"];
export type NodeHealth = S["NodeHealthOut"];
export type FormOptions = S["FormOptionsIn"];
export type Consent = Required<Pick<FormOptions, "accept" | "clean_leftovers">>;
export type ClusterCheck = S["CheckOut"];
export type ClusterPlan = S["PlanOut"];
export type HostFinding = S["FindingOut"];
export type ClusterProof = S["ProofOut"];
export type Backup = S["BackupOut"];
export type Certificates = S["CertificatesOut"];
export type Schedule = S["ScheduleOut"];
export type ScheduleRun = S["ScheduleRunOut"];
export type ScheduleIn = S["ScheduleIn"];
export type ScheduleEdit = S["ScheduleEditIn"];
export type ScheduleAction = ScheduleIn["action"];
export type Maintenance = S["MaintenanceOut"];
export type Hours = S["HoursIn"];
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

/**
 * A device at one instant. Stored steps have more than the live sample of the stream; the charts
 * take what both have.
 */
export type Sample = Pick<
  S["SampleOut"],
  "at" | "cpu_ratio" | "memory_used_bytes" | "memory_total_bytes"
> & {
  temperature_c?: number | null;
  containers?: ContainerSample[] | null;
};
type ContainerSample = Pick<
  S["ContainerSampleOut"],
  "deployment_id" | "cpu_ratio" | "memory_bytes"
> & { frame_lag_ms?: number | null };
