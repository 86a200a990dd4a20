"""`haechi camera`: cameras, their streams and stills."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import GPS, PAIR, ask_secret, given, id_of

COLUMNS: Final = ["id", "name", "device_id", "state", "url", "login", "has_password"]
_CLEARABLE: Final = frozenset({"gps", "sub_url", "login", "device_id"})


def _fields(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--device", "device_id", help="Home device: id or name."),
        click.option("--sub-url", help="RTSP URL of the small stream."),
        click.option("--login", help="User name at the camera."),
        click.option("--ask-password", is_flag=True, help="Ask on the terminal."),
        click.option("--password-stdin", is_flag=True, help="Read it from stdin."),
        click.option("--description"),
        click.option("--postal-address"),
        click.option("--gps", type=GPS, help="LATITUDE,LONGITUDE."),
        click.option("--label", "labels", multiple=True, type=PAIR, help="May be repeated."),
        click.option(
            "--preset",
            "ptz_presets",
            multiple=True,
            type=PAIR,
            help="NAME=TOKEN of a PTZ preset; may be repeated.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _body(api: Api, options: dict[str, Any]) -> dict[str, Any]:
    ask, stdin = options.pop("ask_password"), options.pop("password_stdin")
    body = given(options, clearable=_CLEARABLE)
    if body.get("device_id"):
        body["device_id"] = id_of(api, "/devices", body["device_id"])
    if "labels" in body:
        body["labels"] = dict(body["labels"])
    if "ptz_presets" in body:
        body["ptz_presets"] = [
            {"name": name, "token": token} for name, token in body["ptz_presets"]
        ]
    if ask or stdin:
        body["password"] = ask_secret("Camera password", from_stdin=stdin)
    return body


@click.group()
def camera() -> None:
    """Register, show and delete cameras."""


@camera.command("list")
@click.option("--device", "device_ref", help="Only those at home on this device.")
@pass_api
def list_cameras(api: Api, device_ref: str | None) -> None:
    """List cameras by name."""
    device_id = None if device_ref is None else id_of(api, "/devices", device_ref)
    api.show(api.get_all("/cameras", device_id=device_id), COLUMNS)


@camera.command("show")
@click.argument("camera_ref", metavar="CAMERA")
@pass_api
def show_camera(api: Api, camera_ref: str) -> None:
    """Show one camera; CAMERA is an id or a name."""
    api.show(api.get(f"/cameras/{id_of(api, '/cameras', camera_ref)}"))


@camera.command("create")
@click.argument("name")
@click.argument("url")
@_fields
@pass_api
def create_camera(api: Api, /, name: str, url: str, **options: Any) -> None:
    """Register a camera by its rtsp:// or rtsps:// URL. Give the password by --ask-password or
    --password-stdin: what stands on a command line can be seen by others.
    """
    api.show(api.post("/cameras", {"name": name, "url": url, **_body(api, options)}))


@camera.command("edit")
@click.argument("camera_ref", metavar="CAMERA")
@click.option("--name", help="A new name.")
@click.option("--url", help="A new RTSP URL; the password stays.")
@_fields
@pass_api
def edit_camera(api: Api, /, camera_ref: str, **options: Any) -> None:
    """Change a camera; '' clears a text."""
    api.show(api.edit(f"/cameras/{id_of(api, '/cameras', camera_ref)}", _body(api, options)))


@camera.command("delete")
@click.argument("camera_ref", metavar="CAMERA")
@click.option("--force", is_flag=True, help="Even if work still names it.")
@pass_api
def delete_camera(api: Api, camera_ref: str, force: bool) -> None:
    """Delete a camera and its links to neighbours."""
    api.delete(f"/cameras/{id_of(api, '/cameras', camera_ref)}", force=force)
    api.say("삭제했습니다.", "Deleted.")


@camera.command("still")
@click.argument("camera_ref", metavar="CAMERA")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path))
@pass_api
def save_still(api: Api, camera_ref: str, output: Path) -> None:
    """Save what the camera shows now as a JPEG."""
    camera_id = id_of(api, "/cameras", camera_ref)
    output.write_bytes(api.request("GET", f"/cameras/{camera_id}/still").content)
    api.say(f"{output}에 저장했습니다.", f"Saved to {output}.")
