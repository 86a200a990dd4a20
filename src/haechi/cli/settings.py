"""`haechi settings`: what is set and where it comes from."""

import click

from haechi.cli.client import Api, pass_api


@click.group()
def settings() -> None:
    """Show and change the server's settings."""


@settings.command("show")
@pass_api
def show_settings(api: Api) -> None:
    """Every setting with its value and origin."""
    api.show(api.get("/settings"), ["key", "value", "origin", "pending", "description"])


@settings.command("set")
@click.argument("key")
@click.argument("value")
@pass_api
def set_setting(api: Api, key: str, value: str) -> None:
    """Change a setting as the dashboard would; taken up at the next start of the server."""
    import json

    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    if isinstance(parsed, (list, dict)):
        parsed = value
    api.request("PATCH", "/settings", json={"values": {key: parsed}})
    api.say("다음 서버 시작 때 적용됩니다.", "It is taken up at the next start of the server.")


@settings.command("unset")
@click.argument("key")
@pass_api
def unset_setting(api: Api, key: str) -> None:
    """Take back what was changed in the dashboard."""
    api.request("PATCH", "/settings", json={"values": {key: None}})
