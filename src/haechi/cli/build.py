"""`haechi build`: images made from package versions."""

import click

from haechi.cli.client import Api, pass_api

COLUMNS = ["id", "version_id", "platform", "state", "size_bytes", "duration_s", "created_at"]


@click.group()
def build() -> None:
    """Build package versions into images."""


@build.command("start")
@click.argument("package")
@click.argument("version")
@click.option("--platform", "platforms", multiple=True, help="Such as linux/arm64; repeatable.")
@click.option("--no-cache", is_flag=True, help="Build anew though the same was built before.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Show the build log.")
@pass_api
def start_build(
    api: Api, package: str, version: str, platforms: tuple[str, ...], no_cache: bool, follow: bool
) -> None:
    """Build VERSION of PACKAGE (names or ids) and store it in the site registry."""
    body = {"platforms": list(platforms), "no_cache": no_cache}
    started = api.post(f"/packages/{package}/versions/{version}/build", body)
    if follow:
        api.show(api.follow_operation(started["operation_id"]))
    else:
        api.show(started)


@build.command("list")
@click.option("--version-id", help="Only those of this version.")
@click.option("--package-id", help="Only those of this package.")
@click.option("--state", help="Only those in this state.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_builds(
    api: Api, version_id: str | None, package_id: str | None, state: str | None, limit: int
) -> None:
    """List builds, newest first."""
    builds = api.get(
        "/builds", version_id=version_id, package_id=package_id, state=state, limit=limit
    )
    api.show(builds, COLUMNS)


@build.command("show")
@click.argument("build_id")
@pass_api
def show_build(api: Api, build_id: str) -> None:
    """Show one build."""
    api.show(api.get(f"/builds/{build_id}"))


@build.command("log")
@click.argument("build_id")
@click.option("--follow", is_flag=True, help="Go on until the build has ended.")
@pass_api
def show_log(api: Api, build_id: str, follow: bool) -> None:
    """Print a build's log."""
    params = {"follow": "true"} if follow else {}
    with api.stream("GET", f"/builds/{build_id}/log", params=params) as response:
        for piece in response.iter_text():
            click.echo(piece, nl=False)


@build.command("cancel")
@click.argument("build_id")
@pass_api
def cancel_build(api: Api, build_id: str) -> None:
    """Stop a build and undo what it did."""
    found = api.get(f"/builds/{build_id}")
    api.show(api.post(f"/operations/{found['operation_id']}/cancel"))
