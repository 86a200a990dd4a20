/** The typed HTTP client: language header, problems as exceptions, sign-out noticed. */
import createClient from "openapi-fetch";
import { currentLanguage } from "@/i18n/language";
import { ProblemError, toProblem } from "./problem";
import type { paths } from "./schema";

export const SIGNED_OUT = "haechi:signed-out";

export const http = createClient<paths>({
  baseUrl: window.location.origin,
  credentials: "same-origin",
});

http.use({
  onRequest({ request }) {
    request.headers.set("accept-language", currentLanguage());
    return request;
  },
  onResponse({ response, request }) {
    const signing = request.method === "POST" && new URL(request.url).pathname.endsWith("/session");
    if (response.status === 401 && !signing) window.dispatchEvent(new Event(SIGNED_OUT));
    return response;
  },
});

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The body of a good answer; anything else is thrown as ProblemError. */
export async function body<T>(call: Promise<Answer<T>>): Promise<T> {
  return (await answer(call)).data as T;
}

/** The body with its ETag, for an edit that follows. */
export async function tagged<T>(call: Promise<Answer<T>>): Promise<{ value: T; etag: string }> {
  const got = await answer(call);
  return { value: got.data as T, etag: got.response.headers.get("etag") ?? "*" };
}

async function answer<T>(call: Promise<Answer<T>>): Promise<Answer<T>> {
  let got: Answer<T>;
  try {
    got = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ProblemError(toProblem(null, 0));
  }
  if (!got.response.ok) throw new ProblemError(toProblem(got.error, got.response.status));
  return got;
}

export function ifMatch(etag: string): { "If-Match": string } {
  return { "If-Match": etag };
}
