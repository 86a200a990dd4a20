/** One picture of a camera with the time at which it was taken. */
import { currentLanguage } from "@/i18n/language";
import { ProblemError, toProblem } from "./problem";

const TIMEOUT_MS = 15_000;

export async function readStill(camera_id: string, width: number, signal: AbortSignal) {
  const response = await fetch(`/api/v1/cameras/${camera_id}/still?width=${width}`, {
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    credentials: "same-origin",
    headers: { "accept-language": currentLanguage() },
  });
  if (!response.ok) {
    const said: unknown = await response.json().catch(() => null);
    throw new ProblemError(toProblem(said, response.status));
  }
  const at_ms = Date.parse(response.headers.get("x-captured-at") ?? "");
  const bitmap = await createImageBitmap(await response.blob());
  return { bitmap, at_ms: Number.isFinite(at_ms) ? at_ms : null };
}
