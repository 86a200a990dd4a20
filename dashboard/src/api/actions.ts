/** Every change of the API; each answers with what the server made of it, or throws a problem. */
import { currentLanguage } from "@/i18n/language";
import { body, http, ifMatch } from "./client";
import { ProblemError, toProblem } from "./problem";
import type {
  AssignmentIn,
  CameraIn,
  CameraLinkIn,
  DeployIn,
  DeviceIn,
  GroupIn,
  PackageVersion,
  Role,
  UserIn,
} from "./types";

const at = <P>(path: P) => ({ params: { path } });
const edit = <P>(path: P, etag: string) => ({ params: { path }, headers: ifMatch(etag) });

export const signIn = (name: string, password: string) =>
  body(http.POST("/api/v1/session", { body: { name, password } }));
export const signOut = () => body(http.DELETE("/api/v1/session"));
export const saveLanguage = (language: "ko" | "en") =>
  body(http.PATCH("/api/v1/me", { body: { language } }));
export const changePassword = (current: string, next: string) =>
  body(http.PUT("/api/v1/me/password", { body: { current, new: next } }));

export const createDevice = (device: DeviceIn) =>
  body(http.POST("/api/v1/devices", { body: device }));
export const editDevice = (id: string, etag: string, change: DeviceIn) =>
  body(http.PATCH("/api/v1/devices/{device_id}", { ...edit({ device_id: id }, etag), body: change }));
export const deleteDevice = (id: string, force: boolean) =>
  body(
    http.DELETE("/api/v1/devices/{device_id}", { params: { path: { device_id: id }, query: { force } } }),
  );
export const enrolDevice = (id: string) =>
  body(http.POST("/api/v1/devices/{device_id}/enrolment", at({ device_id: id })));
export const revokeDevice = (id: string) =>
  body(http.POST("/api/v1/devices/{device_id}/revoke", at({ device_id: id })));

export const createCamera = (camera: CameraIn) =>
  body(http.POST("/api/v1/cameras", { body: camera }));
export const editCamera = (id: string, etag: string, change: Partial<CameraIn>) =>
  body(http.PATCH("/api/v1/cameras/{camera_id}", { ...edit({ camera_id: id }, etag), body: change }));
export const deleteCamera = (id: string, force: boolean) =>
  body(
    http.DELETE("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: id }, query: { force } } }),
  );

export const createGroup = (group: GroupIn) => body(http.POST("/api/v1/groups", { body: group }));
export const editGroup = (id: string, etag: string, change: GroupIn) =>
  body(http.PATCH("/api/v1/groups/{group_id}", { ...edit({ group_id: id }, etag), body: change }));
export const deleteGroup = (id: string) =>
  body(http.DELETE("/api/v1/groups/{group_id}", at({ group_id: id })));
export const createLink = (link: CameraLinkIn) => body(http.POST("/api/v1/links", { body: link }));
export const deleteLink = (id: string) =>
  body(http.DELETE("/api/v1/links/{link_id}", at({ link_id: id })));
/** The server judges the document; here it is only known to be JSON. */
export const importInventory = (document: unknown, dry_run: boolean) =>
  body(
    http.POST("/api/v1/inventory/import", {
      params: { query: { dry_run } },
      body: document as Record<string, unknown>,
    }),
  );

export const deletePackage = (id: string, force: boolean) =>
  body(
    http.DELETE("/api/v1/packages/{package_id}", { params: { path: { package_id: id }, query: force ? { force } : {} } }),
  );
export const deleteVersion = (id: string, ver: string, force: boolean) =>
  body(
    http.DELETE("/api/v1/packages/{package_id}/versions/{version}", {
      params: { path: { package_id: id, version: ver }, query: force ? { force } : {} },
    }),
  );
export const buildVersion = (id: string, ver: string) =>
  body(
    http.POST("/api/v1/packages/{package_id}/versions/{version}/build", {
      params: { path: { package_id: id, version: ver } },
      body: {},
    }),
  );

export const deploy = (request: DeployIn) =>
  body(http.POST("/api/v1/deployments", { body: request }));
export const rollBack = (id: string) =>
  body(http.POST("/api/v1/deployments/{deployment_id}/rollback", at({ deployment_id: id })));
export const removeDeployment = (id: string) =>
  body(http.DELETE("/api/v1/deployments/{deployment_id}", at({ deployment_id: id })));

export const assign = (request: AssignmentIn) =>
  body(http.POST("/api/v1/assignments", { body: request }));
export const moveAssignment = (id: string, deployment_id: string) =>
  body(http.POST("/api/v1/assignments/{assignment_id}/move", { ...at({ assignment_id: id }), body: { deployment_id } }));
export const endAssignment = (id: string) =>
  body(http.DELETE("/api/v1/assignments/{assignment_id}", at({ assignment_id: id })));

export const cancelOperation = (id: string) =>
  body(http.POST("/api/v1/operations/{operation_id}/cancel", at({ operation_id: id })));

export const createUser = (user: UserIn) => body(http.POST("/api/v1/users", { body: user }));
export const editUser = (
  id: string,
  etag: string,
  change: { role?: Role; disabled?: boolean; password?: string },
) => body(http.PATCH("/api/v1/users/{user_id}", { ...edit({ user_id: id }, etag), body: change }));
export const deleteUser = (id: string) => body(http.DELETE("/api/v1/users/{user_id}", at({ user_id: id })));
export const createToken = (name: string, role: Role, expires_at: string | null) =>
  body(http.POST("/api/v1/tokens", { body: { name, role, expires_at } }));
export const deleteToken = (id: string) => body(http.DELETE("/api/v1/tokens/{token_id}", at({ token_id: id })));

export const editSite = (
  etag: string,
  change: { name: string; postal_address: string; description: string; timezone: string },
) => body(http.PATCH("/api/v1/site", { headers: ifMatch(etag), body: change }));
/** `null` returns a setting to what file, environment or default say. */
export const changeSetting = (key: string, value: string | number | boolean | null) =>
  body(http.PATCH("/api/v1/settings", { body: { values: { [key]: value } } }));
export const mapBaseImage = (source: string, target: string) =>
  body(http.PUT("/api/v1/base-images", { body: { source, target } }));
export const unmapBaseImage = (source: string) =>
  body(http.DELETE("/api/v1/base-images", { params: { query: { source } } }));
export const collectRegistry = () => body(http.POST("/api/v1/registry/collect"));

/** XMLHttpRequest, because fetch cannot tell how much of a body has been sent. */
export function uploadPackage(
  file: Blob,
  query: { filename: string; version: string; name?: string; replace?: "true" },
  onProgress: (ratio: number) => void,
  signal: AbortSignal,
): Promise<PackageVersion> {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", `/api/v1/packages/upload?${new URLSearchParams(query).toString()}`);
    call.setRequestHeader("content-type", "application/zip");
    call.setRequestHeader("accept-language", currentLanguage());
    call.responseType = "json";
    call.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    call.onload = () => {
      if (call.status >= 200 && call.status < 300) resolve(call.response as PackageVersion);
      else reject(new ProblemError(toProblem(call.response, call.status)));
    };
    call.onerror = () => reject(new ProblemError(toProblem(null, 0)));
    call.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal.addEventListener("abort", () => call.abort());
    call.send(file);
  });
}

/** Follow a text log line by line until it ends or `signal` fires. */
export async function followText(
  url: string,
  signal: AbortSignal,
  onLines: (lines: string[]) => void,
): Promise<void> {
  const response = await fetch(url, {
    signal,
    credentials: "same-origin",
    headers: { "accept-language": currentLanguage() },
  });
  if (!response.ok || !response.body) {
    const said: unknown = await response.json().catch(() => null);
    throw new ProblemError(toProblem(said, response.status));
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    if (parts.length > 0) onLines(parts);
  }
  if (rest) onLines([rest]);
}
