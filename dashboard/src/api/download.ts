/** Save what the API answers as a file. Read first, so that a refusal is shown instead of saved. */
import { currentLanguage } from "@/i18n/language";
import { ProblemError, toProblem } from "./problem";

export async function download(path: string, filename: string): Promise<void> {
  let response: Response;
  try {
    response = await fetch(path, {
      credentials: "same-origin",
      headers: { "accept-language": currentLanguage() },
    });
  } catch {
    throw new ProblemError(toProblem(null, 0));
  }
  if (!response.ok) {
    const said: unknown = await response.json().catch(() => null);
    throw new ProblemError(toProblem(said, response.status));
  }
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = filename;
  link.click();
  // The browser takes the content up after this turn.
  window.setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
