"""`haechi link`: which cameras are neighbours."""

from typing import Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import id_of

COLUMNS: Final = ["id", "camera_a", "camera_b", "origin", "distance_m", "preset_a", "preset_b"]


@click.group()
def link() -> None:
    """Link neighbouring cameras, by hand or by distance."""


@link.command("list")
@click.option("--camera", "camera_ref", help="Only those of this camera.")
@pass_api
def list_links(api: Api, camera_ref: str | None) -> None:
    """List links."""
    camera_id = None if camera_ref is None else id_of(api, "/cameras", camera_ref)
    api.show(api.get_all("/links", camera_id=camera_id), COLUMNS)


@link.command("create")
@click.argument("camera_a")
@click.argument("camera_b")
@click.option("--preset-a", help="Preset of A that looks towards B.")
@click.option("--preset-b", help="Preset of B that looks towards A.")
@pass_api
def create_link(
    api: Api, camera_a: str, camera_b: str, preset_a: str | None, preset_b: str | None
) -> None:
    """Make two cameras (ids or names) neighbours."""
    body = {
        "camera_a": id_of(api, "/cameras", camera_a),
        "camera_b": id_of(api, "/cameras", camera_b),
        "preset_a": preset_a,
        "preset_b": preset_b,
    }
    api.show(api.post("/links", body))


@link.command("suggest")
@click.option("--max-m", default=50.0, show_default=True, help="At most so many metres apart.")
@click.option("--apply", is_flag=True, help="Link them.")
@pass_api
def suggest_links(api: Api, max_m: float, apply: bool) -> None:
    """Show cameras that stand close together and are not linked yet."""
    found = api.get("/links/suggestions", max_m=max_m)["items"]
    if not apply:
        api.show(found, ["camera_a", "camera_b", "distance_m"])
        return
    made = [
        api.post(
            "/links",
            {"camera_a": item["camera_a"], "camera_b": item["camera_b"], "origin": "gps"},
        )
        for item in found
    ]
    api.show(made, COLUMNS)


@link.command("delete")
@click.argument("link_id")
@pass_api
def delete_link(api: Api, link_id: str) -> None:
    """Delete a link."""
    api.delete(f"/links/{link_id}")
    api.say("삭제했습니다.", "Deleted.")
