"""`haechi login` and `haechi logout`: a session of one's own, kept 0600 in ~/.config/haechi.

Programs use an API token instead: HAECHI_URL and HAECHI_TOKEN, and no log-in at all.
"""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from haechi.cli.client import Api, ApiError, credentials_path, load_credentials, pass_api

_COOKIE = "haechi_session"


@click.command()
@click.argument("name", required=False)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option(
    "--ca-fingerprint",
    help="HTTPS: fetch the site CA from the server where it has this fingerprint (sha256:…).",
)
@pass_api
def login(api: Api, name: str | None, password_stdin: bool, ca_fingerprint: str | None) -> None:
    """Sign in; the following commands are done as this user."""
    if ca_fingerprint:
        api.ca_file = str(_fetch_ca(api, ca_fingerprint))
    name = name or click.prompt("사용자 이름" if api.language == "ko" else "Name", default="admin")
    password = ask_password(api, stdin=password_stdin)
    api.token = None
    answer = api.request("POST", "/session", json={"name": name, "password": password})
    keep_session(api, answer.cookies[_COOKIE])
    me = answer.json()
    if me["must_change_password"]:
        if password_stdin or not sys.stdin.isatty():
            api.say(
                "비밀번호를 먼저 변경해야 합니다: haechi user password",
                "The password must be changed first: haechi user password",
            )
        else:
            change_password(api, password)
    if api.json_output:
        api.show(me)
    api.say(
        f"{me['name']}(으)로 로그인했습니다 ({me['role']}, {api.url}).",
        f"Signed in as {me['name']} ({me['role']}) at {api.url}.",
    )


@click.command()
@pass_api
def logout(api: Api) -> None:
    """Sign out, here and on the server."""
    saved = load_credentials()
    credentials_path().unlink(missing_ok=True)
    if saved.get("token"):
        api.token = saved["token"]
        api.url = saved.get("url", api.url)
        api.delete("/session")
    api.say("로그아웃했습니다.", "Signed out.")


def change_password(api: Api, current: str, *, stdin: bool = False) -> None:
    """Ask for a new password and take up the session that comes with it."""
    new = ask_password(api, new=True, stdin=stdin)
    answer = api.request("PUT", "/me/password", json={"current": current, "new": new})
    keep_session(api, answer.cookies[_COOKIE])
    api.say("비밀번호를 변경했습니다.", "The password was changed.")


def ask_password(api: Api, *, new: bool = False, stdin: bool = False) -> str:
    """From the terminal without echo, or one line of standard input; never from an argument."""
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    ko = api.language == "ko"
    if new:
        text = "새 비밀번호" if ko else "New password"
        again = "새 비밀번호 확인" if ko else "New password again"
        return str(click.prompt(text, hide_input=True, confirmation_prompt=again))
    return str(click.prompt("비밀번호" if ko else "Password", hide_input=True))


def keep_session(api: Api, token: str) -> None:
    """Save it for the next commands, and use it from now on."""
    kept = {"url": api.url.rstrip("/"), "token": token}
    if api.ca_file:
        kept["ca_file"] = str(Path(api.ca_file).resolve())
    _write(credentials_path(), json.dumps(kept))
    api.token = token
    api.client.cookies.clear()
    api.client.headers["Authorization"] = f"Bearer {token}"


def _fetch_ca(api: Api, fingerprint: str) -> Path:
    from haechi.core.trust import ServerNotTrusted, fetch_ca

    parts = urlsplit(api.url)
    try:
        pem = fetch_ca(parts.hostname or "", parts.port or 443, fingerprint)
    except ServerNotTrusted as error:
        problem = error.problem("ko" if api.language == "ko" else "en")
        raise ApiError(error.http_status, problem, as_json=api.json_output) from error
    path = credentials_path().with_name("site-ca.pem")
    _write(path, pem)
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)
