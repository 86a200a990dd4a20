"""`haechi`: finds the module of a noun when it is used, so that start-up stays short."""

import importlib
import os
from typing import Any, Final

import click

from haechi import __version__

# noun → module; the object in it has the noun's name with `-` as `_`.
COMMANDS: Final = {
    "serve": "serve",
    "doctor": "doctor",
    "settings": "settings",
    "openapi": "openapi",
    "login": "session",
    "logout": "session",
    "user": "user",
    "token": "token",
    "audit": "audit",
    "site": "site",
    "device": "device",
    "camera": "camera",
    "link": "link",
    "group": "group",
    "inventory": "inventory",
    "package": "package",
    "build": "build",
    "baseimage": "baseimage",
    "bundle": "bundle",
    "registry": "registry",
    "cluster": "cluster",
    "deployment": "deployment",
    "assignment": "assignment",
    "schedule": "schedule",
    "maintenance": "maintenance",
    "playbook": "playbook",
    "result": "results",
    "metric": "metrics",
    "operation": "operation",
    "agent": "agent",
    "media": "media",
}


class _Lazy(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Whatever is not foreseen is a bug: told with its place, exit code 70."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from haechi.cli import fault

            if fault.is_for_click(error):
                raise
            raise fault.told(error, ctx) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        loaded = importlib.import_module(f"haechi.cli.{module}")
        command: click.Command = getattr(loaded, cmd_name.replace("-", "_"))
        return command


def _language() -> str:
    for name in ("HAECHI_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "ko" if value.lower().startswith("ko") else "en"
    return "en"


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="haechi")
@click.option("--url", envvar="HAECHI_URL", help="Server address [default: the one logged in to].")
@click.option("--token", envvar="HAECHI_TOKEN", help="API token; better given by the environment.")
@click.option("--ca-file", envvar="HAECHI_CA_FILE", help="Site CA, where the server uses HTTPS.")
@click.option("--json", "json_output", is_flag=True, help="Print the API's JSON.")
@click.option("--language", type=click.Choice(["ko", "en"]), help="Language of messages.")
@click.pass_context
def main(
    ctx: click.Context,
    url: str | None,
    token: str | None,
    ca_file: str | None,
    json_output: bool,
    language: str | None,
) -> None:
    """Wireless edge CCTV on your own premises: devices, AIs, results. (해치)."""
    if ctx.invoked_subcommand in {"agent", "media", "serve", "doctor", "openapi", None}:
        ctx.obj = None
        ctx.meta["language"] = language or _language()
        ctx.meta["json"] = json_output
        return
    from haechi.cli.client import DEFAULT_URL, Api, load_credentials

    saved: dict[str, Any] = load_credentials()
    if url and url.rstrip("/") != saved.get("url"):
        saved = {}  # never show one server the session of another
    opened = Api(
        url=url or saved.get("url") or DEFAULT_URL,
        token=token or saved.get("token"),
        ca_file=ca_file or saved.get("ca_file"),
        language=language or _language(),
        json_output=json_output,
    )
    ctx.obj = opened

    @ctx.call_on_close
    def close() -> None:
        if opened._client is not None:  # noqa: SLF001 - asking `client` would open one
            opened._client.close()  # noqa: SLF001
