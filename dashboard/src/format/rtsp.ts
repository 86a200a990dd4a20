/** A pasted RTSP address with its login split off, so that a password never stays in a text field. */
export type SplitUrl = { url: string; login: string | null; password: string | null };

export function splitLogin(text: string): SplitUrl {
  const found = /^(rtsps?:\/\/)([^/@]*(?:@[^/@]*)*)@([^@/]+)(\/.*)?$/i.exec(text.trim());
  if (!found) return { url: text.trim(), login: null, password: null };
  const [, scheme = "", user = "", host = "", path = ""] = found;
  const colon = user.indexOf(":");
  const name = colon < 0 ? user : user.slice(0, colon);
  return {
    url: `${scheme}${host}${path}`,
    login: decode(name),
    password: colon < 0 ? null : decode(user.slice(colon + 1)),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a bare % in a password
  }
}
