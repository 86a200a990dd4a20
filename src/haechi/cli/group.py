"""`haechi group`: groups of devices."""

from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import given, id_of

COLUMNS: Final = ["id", "name", "device_ids", "description"]


@click.group()
def group() -> None:
    """Put devices into groups, to deploy to several at once."""


@group.command("list")
@pass_api
def list_groups(api: Api) -> None:
    """List groups by name."""
    api.show(api.get_all("/groups"), COLUMNS)


@group.command("show")
@click.argument("group_ref", metavar="GROUP")
@pass_api
def show_group(api: Api, group_ref: str) -> None:
    """Show one group."""
    api.show(api.get(f"/groups/{id_of(api, '/groups', group_ref)}"))


@group.command("create")
@click.argument("name")
@click.argument("devices", nargs=-1)
@click.option("--description", default="")
@pass_api
def create_group(api: Api, name: str, devices: tuple[str, ...], description: str) -> None:
    """Make a group of devices (ids or names)."""
    ids = [id_of(api, "/devices", ref) for ref in devices]
    api.show(api.post("/groups", {"name": name, "description": description, "device_ids": ids}))


@group.command("edit")
@click.argument("group_ref", metavar="GROUP")
@click.option("--name", help="A new name.")
@click.option("--description")
@click.option("--device", "devices", multiple=True, help="The new members; may be repeated.")
@pass_api
def edit_group(api: Api, /, group_ref: str, devices: tuple[str, ...], **options: Any) -> None:
    """Rename a group or set its members."""
    body = given(options)
    if devices:
        body["device_ids"] = [id_of(api, "/devices", ref) for ref in devices]
    api.show(api.edit(f"/groups/{id_of(api, '/groups', group_ref)}", body))


@group.command("delete")
@click.argument("group_ref", metavar="GROUP")
@pass_api
def delete_group(api: Api, group_ref: str) -> None:
    """Delete a group; its devices stay."""
    api.delete(f"/groups/{id_of(api, '/groups', group_ref)}")
    api.say("삭제했습니다.", "Deleted.")
