"""`haechi device`: the computers of the site."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import GPS, PAIR, ask_secret, given, id_of
from haechi.cli.waiting import follow, no_wait_option

COLUMNS: Final = ["id", "name", "role", "state", "enrolment", "address", "platform", "last_seen_at"]
_CLEARABLE: Final = frozenset({"gps", "host_name", "address", "ssh_user"})


def _fields(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--role", type=click.Choice(["edge", "analysis", "server"])),
        click.option("--description"),
        click.option("--postal-address"),
        click.option("--gps", type=GPS, help="LATITUDE,LONGITUDE."),
        click.option("--supports-analysis/--no-supports-analysis", default=None),
        click.option("--host-name", help="DNS label; node name and default SSH user."),
        click.option("--address", help="IP or name by which SSH reaches it."),
        click.option("--port", type=click.IntRange(1, 65535)),
        click.option("--label", "labels", multiple=True, type=PAIR, help="May be repeated."),
        click.option("--ssh-user"),
        click.option("--ask-ssh-password", is_flag=True, help="Ask on the terminal."),
        click.option("--ssh-password-stdin", is_flag=True, help="Read it from stdin."),
        click.option(
            "--ssh-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path)
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _body(options: dict[str, Any]) -> dict[str, Any]:
    ask, stdin = options.pop("ask_ssh_password"), options.pop("ssh_password_stdin")
    key_file = options.pop("ssh_key_file")
    body = given(options, clearable=_CLEARABLE)
    if "labels" in body:
        body["labels"] = dict(body["labels"])
    if ask or stdin:
        body["ssh_password"] = ask_secret("SSH password", from_stdin=stdin)
    if key_file is not None:
        body["ssh_key"] = key_file.read_text()
    return body


@click.group()
def device() -> None:
    """Register, show, enrol and delete devices."""


@device.command("list")
@click.option("--role", type=click.Choice(["edge", "analysis", "server"]))
@click.option("--address", help="Only those with this address, entered or seen.")
@pass_api
def list_devices(api: Api, role: str | None, address: str | None) -> None:
    """List devices by name."""
    api.show(api.get_all("/devices", role=role, address=address), COLUMNS)


@device.command("show")
@click.argument("device_ref", metavar="DEVICE")
@pass_api
def show_device(api: Api, device_ref: str) -> None:
    """Show one device; DEVICE is an id, a name or the id of another system."""
    api.show(api.get(_path(api, device_ref)))


@device.command("create")
@click.argument("name")
@_fields
@pass_api
def create_device(api: Api, /, name: str, **options: Any) -> None:
    """Register a device."""
    api.show(api.post("/devices", {"name": name, **_body(options)}))


@device.command("edit")
@click.argument("device_ref", metavar="DEVICE")
@click.option("--name", help="A new name.")
@_fields
@pass_api
def edit_device(api: Api, /, device_ref: str, **options: Any) -> None:
    """Change a device; '' clears a text."""
    api.show(api.edit(_path(api, device_ref), _body(options)))


@device.command("delete")
@click.argument("device_ref", metavar="DEVICE")
@click.option("--force", is_flag=True, help="Even if cameras or work still name it.")
@pass_api
def delete_device(api: Api, device_ref: str, force: bool) -> None:
    """Delete a device."""
    api.delete(_path(api, device_ref), force=force)
    api.say("삭제했습니다.", "Deleted.")


@device.command("enrol")
@click.argument("device_ref", metavar="DEVICE")
@pass_api
def enrol_device(api: Api, device_ref: str) -> None:
    """Get a one-time token and the command that makes a computer this device."""
    api.show(api.post(f"{_path(api, device_ref)}/enrolment"))


@device.command("trust")
@click.argument("device_ref", metavar="DEVICE")
@click.option("--fingerprint", help="Only where the host shows this one (SHA256:…).")
@click.option("--replace", is_flag=True, help="The host was installed anew and has another key.")
@pass_api
def trust_host_key(api: Api, device_ref: str, fingerprint: str | None, replace: bool) -> None:
    """Pin the SSH key that the device's host shows: on your word, or by its fingerprint."""
    body = {"fingerprint": fingerprint or "", "replace": replace}
    api.show(api.post(f"{_path(api, device_ref)}/host-key", body))


@device.command("install-agent")
@click.argument("device_ref", metavar="DEVICE")
@no_wait_option
@pass_api
def install_agent(api: Api, device_ref: str, no_wait: bool) -> None:
    """Bring the agent to the device's host over SSH, and see it call in."""
    follow(api, api.post(f"{_path(api, device_ref)}/agent"), no_wait=no_wait)


@device.command("update-agent")
@click.argument("device_ref", metavar="DEVICE")
@no_wait_option
@pass_api
def update_agent(api: Api, device_ref: str, no_wait: bool) -> None:
    """Replace the agent on the device's host; back to the old one where the new does not call."""
    follow(api, api.post(f"{_path(api, device_ref)}/agent/update"), no_wait=no_wait)


@device.command("remove-agent")
@click.argument("device_ref", metavar="DEVICE")
@no_wait_option
@pass_api
def remove_agent(api: Api, device_ref: str, no_wait: bool) -> None:
    """Take the agent with its data from the device's host."""
    follow(api, api.delete(f"{_path(api, device_ref)}/agent"), no_wait=no_wait)


@device.command("revoke")
@click.argument("device_ref", metavar="DEVICE")
@pass_api
def revoke_device(api: Api, device_ref: str) -> None:
    """Take the device's certificate away: its agent may not call in any more."""
    api.show(api.post(f"{_path(api, device_ref)}/revoke"))


def _path(api: Api, ref: str) -> str:
    return f"/devices/{id_of(api, '/devices', ref)}"
