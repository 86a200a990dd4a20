"""`haechi assignment`: which deployment looks at which camera."""

from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import id_of

COLUMNS: Final = [
    "id",
    "camera_id",
    "deployment_id",
    "device_id",
    "mode",
    "fps",
    "stream",
    "epoch",
    "state",
]


@click.group()
def assignment() -> None:
    """Hand cameras to deployments, move them, take them back."""


@assignment.command("list")
@click.option("--camera", help="Only those of this camera (name or id).")
@click.option("--device", help="Only those on this device (name or id).")
@click.option("--deployment", help="Only those of this deployment.")
@click.option("--all", "include_ended", is_flag=True, help="Ended ones too.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_assignments(
    api: Api,
    camera: str | None,
    device: str | None,
    deployment: str | None,
    include_ended: bool,
    limit: int,
) -> None:
    """List assignments."""
    found = api.get(
        "/assignments",
        camera_id=id_of(api, "/cameras", camera) if camera else None,
        device_id=id_of(api, "/devices", device) if device else None,
        deployment_id=deployment,
        include_ended="true" if include_ended else None,
        limit=limit,
    )
    api.show(found, COLUMNS)


@assignment.command("show")
@click.argument("assignment_id")
@pass_api
def show_assignment(api: Api, assignment_id: str) -> None:
    """Show one assignment."""
    api.show(api.get(f"/assignments/{assignment_id}"))


@assignment.command("create")
@click.argument("camera")
@click.argument("deployment_id")
@click.option(
    "--mode",
    type=click.Choice(["watch", "focus", "precise", "standby"]),
    default="watch",
    show_default=True,
)
@click.option("--fps", type=float, default=5.0, show_default=True, help="Frames a second.")
@click.option("--stream", type=click.Choice(["main", "sub"]), default="main", show_default=True)
@pass_api
def assign_camera(api: Api, /, camera: str, deployment_id: str, **options: Any) -> None:
    """Hand CAMERA (name or id) to a running deployment."""
    body = {"camera_id": id_of(api, "/cameras", camera), "deployment_id": deployment_id, **options}
    api.show(api.post("/assignments", body))


@assignment.command("move")
@click.argument("assignment_id")
@click.argument("deployment_id")
@pass_api
def move_assignment(api: Api, assignment_id: str, deployment_id: str) -> None:
    """Move a camera to another deployment of its package, without a restart."""
    body = {"deployment_id": deployment_id}
    api.show(api.post(f"/assignments/{assignment_id}/move", body))


@assignment.command("end")
@click.argument("assignment_id")
@pass_api
def end_assignment(api: Api, assignment_id: str) -> None:
    """Take a camera back."""
    api.delete(f"/assignments/{assignment_id}")
    api.say("할당을 끝냈습니다.", "The assignment has ended.")
