"""`haechi baseimage`: what builds take for the base images that Dockerfiles name."""

import click

from haechi.cli.client import Api, pass_api

COLUMNS = ["source", "target", "changed_at"]


@click.group()
def baseimage() -> None:
    """Map base images of Dockerfiles to images that this site has."""


@baseimage.command("list")
@pass_api
def list_base_images(api: Api) -> None:
    """List the map."""
    api.show(api.get("/base-images"), COLUMNS)


@baseimage.command("map")
@click.argument("source")
@click.argument("target")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait until stored.")
@pass_api
def map_base_image(api: Api, source: str, target: str, follow: bool) -> None:
    """Take TARGET wherever a Dockerfile names SOURCE, such as python:3.11-slim."""
    mapped = api.put("/base-images", {"source": source, "target": target})
    if follow and mapped["operation_id"]:
        api.follow_operation(mapped["operation_id"])
    api.show(mapped)


@baseimage.command("unmap")
@click.argument("source")
@pass_api
def unmap_base_image(api: Api, source: str) -> None:
    """Take SOURCE itself again."""
    api.delete("/base-images", source=source)
    api.say(f"'{source}' 매핑을 삭제했습니다.", f"'{source}' is no longer mapped.")
