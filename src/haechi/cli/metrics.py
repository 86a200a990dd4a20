"""`haechi metric`: what devices measure of themselves."""

from typing import Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import known_id_of

COLUMNS: Final = [
    "at",
    "cpu_ratio",
    "cpu_ratio_max",
    "memory_used_bytes",
    "memory_total_bytes",
    "disk_free_bytes",
    "temperature_c",
    "net.wifi_dbm",
    "count",
]


@click.group()
def metric() -> None:
    """Look at CPU, memory and radio of devices over time."""


@metric.command("list")
@click.argument("device")
@click.option("--from", "from_", help="RFC 3339; without a period the last 300 steps.")
@click.option("--to", help="RFC 3339.")
@click.option("--step-s", default=1, show_default=True, type=click.IntRange(1, 86_400))
@pass_api
def list_samples(api: Api, device: str, from_: str | None, to: str | None, step_s: int) -> None:
    """A device's samples, oldest first; older times have coarser steps."""
    device_id = known_id_of(api, "/devices", device)
    query = {"device_id": device_id, "from": from_, "to": to, "step_s": step_s}
    api.show(api.get("/metrics/samples", **query), COLUMNS)


@metric.command("latest")
@click.argument("device")
@pass_api
def latest(api: Api, device: str) -> None:
    """A device's newest sample; exit code 3 where it is older than 5 seconds."""
    api.show(api.get("/metrics/latest", device_id=known_id_of(api, "/devices", device)))


@metric.command("compare")
@click.argument("device")
@click.argument("at")
@click.option("--before-s", default=60, show_default=True, type=click.IntRange(1, 86_400))
@click.option("--after-s", default=60, show_default=True, type=click.IntRange(1, 86_400))
@pass_api
def compare(api: Api, device: str, at: str, before_s: int, after_s: int) -> None:
    """Mean CPU of a device before and after a moment AT (RFC 3339), such as a deployment."""
    query = {"at": at, "before_s": before_s, "after_s": after_s}
    api.show(
        api.get("/metrics/before-after", device_id=known_id_of(api, "/devices", device), **query)
    )
