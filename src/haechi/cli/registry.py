"""`haechi registry`: the site's own image registry."""

import click

from haechi.cli.client import Api, pass_api

COLUMNS = ["repository", "tag", "size_bytes", "platforms", "digest"]


@click.group()
def registry() -> None:
    """Look at the site registry and free its space."""


@registry.command("show")
@pass_api
def show_registry(api: Api) -> None:
    """Show what it holds and the space it takes."""
    found = api.get("/registry")
    if api.json_output:
        api.show(found)
        return
    rows = [
        {"repository": repository["name"], **tag}
        for repository in found["repositories"]
        for tag in repository["tags"]
    ]
    api.show({key: value for key, value in found.items() if key != "repositories"})
    api.show(rows, COLUMNS)


@registry.command("collect")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for its end.")
@pass_api
def collect_registry(api: Api, follow: bool) -> None:
    """Delete images of deleted versions and free their space."""
    started = api.post("/registry/collect")
    if follow:
        api.show(api.follow_operation(started["operation_id"])["result"])
    else:
        api.show(started)
