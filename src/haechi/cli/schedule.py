"""`haechi schedule`: do things at a time."""

from datetime import datetime
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import given, id_of, known_id_of

COLUMNS: Final = ["id", "name", "action", "next_at", "cron", "enabled"]
RUN_COLUMNS: Final = ["due_at", "state", "waiting", "operations", "errors"]


class _Moment(click.ParamType[str]):
    """`2026-12-01T03:30`, in this machine's zone where none is given."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time like 2026-12-01T03:30", param, ctx)
        return at.astimezone().isoformat()


def _when(command: Any) -> Any:
    """When, and how late still: of every command that makes or edits one."""
    for option in (
        click.option("--catch-up-s", type=int, help="So late it is still done. [default: 3600]"),
        click.option("--timezone", help="Zone of the cron expression; the site's where absent."),
        click.option("--cron", help="Minute, hour, day, month, weekday: '30 3 * * mon-fri'."),
        click.option("--at", type=_Moment(), help="Once, at this time."),
    ):
        command = option(command)
    return command


def _targets(command: Any) -> Any:
    """Whom: of every command that deploys or removes."""
    for option in (
        click.option("--control-planes", is_flag=True, help="The cluster's control planes too."),
        click.option("--cluster", "cluster_ref", help="A cluster: its workers of that day."),
        click.option("--group", "group_ref", help="A group: its members of that day."),
        click.option("--device", "devices", multiple=True, help="May be repeated."),
    ):
        command = option(command)
    return command


@click.group()
def schedule() -> None:
    """Deploy, remove and back up at a time, once or again and again."""


@schedule.command("list")
@pass_api
def list_schedules(api: Api) -> None:
    """List schedules by name."""
    api.show(api.get_all("/schedules"), COLUMNS)


@schedule.command("show")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def show_schedule(api: Api, schedule_ref: str) -> None:
    """Show one schedule."""
    api.show(api.get(f"/schedules/{id_of(api, '/schedules', schedule_ref)}"))


@schedule.command("runs")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def list_runs(api: Api, schedule_ref: str) -> None:
    """List its runs, newest first."""
    schedule_id = known_id_of(api, "/schedules", schedule_ref)
    api.show(api.get(f"/schedules/{schedule_id}/runs"), RUN_COLUMNS)


@schedule.command("create-deploy")
@click.argument("name")
@click.argument("package_ref", metavar="PACKAGE")
@click.argument("version")
@_targets
@_when
@pass_api
def create_deploy(
    api: Api,
    /,
    name: str,
    package_ref: str,
    version: str,
    devices: tuple[str, ...],
    group_ref: str | None,
    cluster_ref: str | None,
    control_planes: bool,
    **when: Any,
) -> None:
    """Deploy VERSION of PACKAGE at a time."""
    action = {
        "type": "deploy_package",
        "version_id": api.get(f"/packages/{package_ref}/versions/{version}")["id"],
        **_named(api, devices, group_ref, cluster_ref),
        "control_planes": control_planes,
    }
    api.show(api.post("/schedules", {"name": name, "action": action, **given(when)}))


@schedule.command("create-remove")
@click.argument("name")
@click.argument("package_ref", metavar="PACKAGE")
@_targets
@_when
@pass_api
def create_remove(
    api: Api,
    /,
    name: str,
    package_ref: str,
    devices: tuple[str, ...],
    group_ref: str | None,
    cluster_ref: str | None,
    control_planes: bool,
    **when: Any,
) -> None:
    """Remove what runs of a package at a time."""
    action = {
        "type": "remove_package",
        "package_id": id_of(api, "/packages", package_ref),
        **_named(api, devices, group_ref, cluster_ref),
        "control_planes": control_planes,
    }
    api.show(api.post("/schedules", {"name": name, "action": action, **given(when)}))


@schedule.command("create-backup")
@click.argument("name")
@click.argument("cluster_ref", metavar="CLUSTER")
@_when
@pass_api
def create_backup(api: Api, /, name: str, cluster_ref: str, **when: Any) -> None:
    """Back a cluster up at a time."""
    action = {"type": "back_up_cluster", "cluster_id": id_of(api, "/clusters", cluster_ref)}
    api.show(api.post("/schedules", {"name": name, "action": action, **given(when)}))


@schedule.command("edit")
@click.argument("schedule_ref", metavar="SCHEDULE")
@click.option("--name", help="A new name.")
@_when
@pass_api
def edit_schedule(api: Api, /, schedule_ref: str, **changes: Any) -> None:
    """Change its name or when it runs."""
    path = f"/schedules/{id_of(api, '/schedules', schedule_ref)}"
    api.show(api.edit(path, given(changes)))


@schedule.command("pause")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def pause_schedule(api: Api, schedule_ref: str) -> None:
    """Switch it off until `resume`."""
    path = f"/schedules/{id_of(api, '/schedules', schedule_ref)}"
    api.show(api.edit(path, {"enabled": False}))


@schedule.command("resume")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def resume_schedule(api: Api, schedule_ref: str) -> None:
    """Switch it on again."""
    path = f"/schedules/{id_of(api, '/schedules', schedule_ref)}"
    api.show(api.edit(path, {"enabled": True}))


@schedule.command("run")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def run_schedule(api: Api, schedule_ref: str) -> None:
    """Do it now, whatever the maintenance hours."""
    schedule_id = id_of(api, "/schedules", schedule_ref)
    api.show(api.post(f"/schedules/{schedule_id}/run", None))


@schedule.command("delete")
@click.argument("schedule_ref", metavar="SCHEDULE")
@pass_api
def delete_schedule(api: Api, schedule_ref: str) -> None:
    """Delete it; what it has begun already goes on."""
    api.delete(f"/schedules/{id_of(api, '/schedules', schedule_ref)}")
    api.say("삭제했습니다.", "Deleted.")


def _named(
    api: Api, devices: tuple[str, ...], group_ref: str | None, cluster_ref: str | None
) -> dict[str, Any]:
    return {
        "device_ids": [id_of(api, "/devices", ref) for ref in devices],
        "group_id": None if group_ref is None else id_of(api, "/groups", group_ref),
        "cluster_id": None if cluster_ref is None else id_of(api, "/clusters", cluster_ref),
    }
