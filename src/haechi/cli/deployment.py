"""`haechi deployment`: package versions running on devices."""

from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import PAIR, id_of
from haechi.cli.waiting import follow, no_wait_option

COLUMNS: Final = [
    "id",
    "package_name",
    "version",
    "device_name",
    "state",
    "observed_state",
    "restarts",
    "previous_version",
    "started_at",
]
DEVICES: Final[dict[str, Any]] = {
    "rows": "devices",
    "columns": ["device", "state", "outcome", "version", "strategy", "gap_s", "error.code"],
}
"""How the outcome of an operation on devices is shown."""


@click.group()
def deployment() -> None:
    """Deploy packages to devices, roll back, remove, read logs."""


@deployment.command("create")
@click.argument("package")
@click.argument("version")
@click.option("--device", "devices", multiple=True, help="Device (name or id); repeatable.")
@click.option("--group", help="Group of devices (name or id).")
@click.option("--cluster", help="Workers of a cluster (name or id).")
@click.option("--control-planes", is_flag=True, help="The cluster's control planes too.")
@click.option("--strategy", type=click.Choice(["overlap", "recreate"]), help="[default: chosen]")
@click.option("--env", "environment", multiple=True, type=PAIR, help="Repeatable.")
@click.option("--cpu", type=float, help="Limit in cores.")
@click.option("--memory-mb", type=click.IntRange(min=8), help="Memory limit.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(["internet", "privileged"]),
    help="Agree to what the package asks for; repeatable.",
)
@click.option("--camera", "cameras", multiple=True, help="Camera (name or id); repeatable.")
@click.option("--no-cameras", is_flag=True, help="Hand it no cameras.")
@click.option("--fps", type=float, default=5.0, show_default=True, help="Frames a second.")
@click.option("--stream", type=click.Choice(["main", "sub"]), default="main", show_default=True)
@click.option(
    "--wait-device",
    "wait_s",
    type=click.FloatRange(min=0),
    default=3600,
    show_default=True,
    help="Seconds to wait for a device that is away.",
)
@no_wait_option
@pass_api
def deploy_package(api: Api, /, package: str, version: str, **options: Any) -> None:
    """Deploy VERSION of PACKAGE (names or ids), replacing what runs there of the package."""
    found = api.get(f"/packages/{package}/versions/{version}")
    body: dict[str, Any] = {
        "version_id": found["id"],
        "device_ids": [id_of(api, "/devices", one) for one in options["devices"]],
        "environment": dict(options["environment"]),
        "allow": list(options["allow"]),
        "resources": _without_none(
            cpu=options["cpu"],
            memory_bytes=options["memory_mb"] and options["memory_mb"] * 1024**2,
        ),
        "wait_s": options["wait_s"],
        "cameras": {
            "assign": not options["no_cameras"],
            "fps": options["fps"],
            "stream": options["stream"],
        },
    }
    if options["cameras"]:
        wanted = [id_of(api, "/cameras", one) for one in options["cameras"]]
        body["cameras"]["camera_ids"] = wanted
    if options["group"]:
        body["group_id"] = id_of(api, "/groups", options["group"])
    if options["cluster"]:
        body["cluster_id"] = id_of(api, "/clusters", options["cluster"])
        body["control_planes"] = options["control_planes"]
    elif options["control_planes"]:
        raise click.UsageError("--control-planes needs --cluster.")
    if options["strategy"]:
        body["strategy"] = options["strategy"]
    follow(api, api.post("/deployments", body), no_wait=options["no_wait"], **DEVICES)


@deployment.command("list")
@click.option("--device", help="Only those on this device (name or id).")
@click.option("--package-id", help="Only those of this package.")
@click.option("--all", "include_removed", is_flag=True, help="Past ones too.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_deployments(
    api: Api, device: str | None, package_id: str | None, include_removed: bool, limit: int
) -> None:
    """List deployments, newest first."""
    found = api.get(
        "/deployments",
        device_id=id_of(api, "/devices", device) if device else None,
        package_id=package_id,
        include_removed="true" if include_removed else None,
        limit=limit,
    )
    api.show(found, COLUMNS)


@deployment.command("show")
@click.argument("deployment_id")
@pass_api
def show_deployment(api: Api, deployment_id: str) -> None:
    """Show one deployment."""
    api.show(api.get(f"/deployments/{deployment_id}"))


@deployment.command("logs")
@click.argument("deployment_id")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last lines.")
@pass_api
def read_logs(api: Api, deployment_id: str, follow: bool, tail: int | None) -> None:
    """Print what the container says; of one that is gone, its last lines."""
    params = _without_none(follow="true" if follow else None, tail=tail)
    with api.stream("GET", f"/deployments/{deployment_id}/logs", params=params) as response:
        for piece in response.iter_text():
            click.echo(piece, nl=False)


@deployment.command("rollback")
@click.argument("deployment_id")
@no_wait_option
@pass_api
def rollback_deployment(api: Api, deployment_id: str, no_wait: bool) -> None:
    """Go back to the version that ran there before."""
    follow(api, api.post(f"/deployments/{deployment_id}/rollback"), no_wait=no_wait, **DEVICES)


@deployment.command("remove")
@click.argument("deployment_id")
@no_wait_option
@pass_api
def remove_deployment(api: Api, deployment_id: str, no_wait: bool) -> None:
    """Stop and remove a deployment."""
    follow(api, api.delete(f"/deployments/{deployment_id}"), no_wait=no_wait, **DEVICES)


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
