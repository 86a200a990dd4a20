"""`haechi result`: what the AIs said."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import id_of, known_id_of

COLUMNS: Final = [
    "captured_at",
    "camera_id",
    "device_id",
    "package_name",
    "version",
    "class",
    "class_prob",
    "seen",
    "took_ms",
]


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--camera", help="Id or name."),
        click.option("--device", help="Id or name of the device that computed it."),
        click.option("--package", "package_id", help="Id of the AI's package."),
        click.option("--class", "class_", help="Seen in the frame, or class of the whole frame."),
        click.option("--from", "from_", help="RFC 3339, e.g. 2026-03-01T12:00:00+09:00."),
        click.option("--to", help="RFC 3339."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _query(
    api: Api,
    camera: str | None,
    device: str | None,
    package_id: str | None,
    class_: str | None,
    from_: str | None,
    to: str | None,
) -> dict[str, Any]:
    return {
        "camera_id": id_of(api, "/cameras", camera) if camera else None,
        "device_id": id_of(api, "/devices", device) if device else None,
        "package_id": package_id,
        "class": class_,
        "from": from_,
        "to": to,
    }


@click.group()
def result() -> None:
    """Look at, count, follow and send results."""


@result.command("list")
@_filters
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_results(api: Api, /, limit: int, **filters: Any) -> None:
    """The newest first."""
    page = api.get("/results", limit=limit, **_query(api, **filters))
    if not api.json_output:
        for row in page["items"]:
            row["seen"] = _seen(row)
    api.show(page, COLUMNS)


def _seen(row: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for found in row["objects"]:
        counts[found["class"]] = counts.get(found["class"], 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@result.command("summary")
@_filters
@click.option("--bucket-s", default=60, show_default=True, type=click.IntRange(1, 86_400))
@pass_api
def summarise(api: Api, /, bucket_s: int, **filters: Any) -> None:
    """Frames looked at and objects seen per bucket of time; the last 60 without a period."""
    page = api.get("/results/summary", bucket_s=bucket_s, **_query(api, **filters))
    api.show(page, ["at", "count", "by_class"])


@result.command("follow")
@click.argument("camera")
@pass_api
def follow(api: Api, camera: str) -> None:
    """Print a camera's results as they come, one JSON object a line, until interrupted."""
    topic = f"results:{known_id_of(api, '/cameras', camera)}"
    with api.stream("GET", "/stream", params={"topics": topic}) as response:
        for line in response.iter_lines():
            if line.startswith("data:"):
                document = json.loads(line.removeprefix("data:"))
                click.echo(json.dumps(document.get("data", document), ensure_ascii=False))


@result.command("post")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@pass_api
def post(api: Api, file: str) -> None:
    """Send results from a JSON file (one object or a list), or from stdin with `-`."""
    body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    headers = {"Content-Type": "application/json"}
    api.show(api.request("POST", "/results", content=body, headers=headers).json())
