"""`haechi maintenance`: when schedules may disturb a device."""

import re
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import id_of

DAYS: Final = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Hours(click.ParamType[dict[str, Any]]):
    """`mon-fri,sun 02:00-05:00`."""

    name = "DAYS HH:MM-HH:MM"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        found = re.fullmatch(r"([a-z,-]+) (\d\d:\d\d)-(\d\d:\d\d)", str(value).strip().lower())
        days = _days(found[1]) if found else None
        if found is None or not days:
            self.fail(f"{value!r} is not like 'mon-fri 02:00-05:00'", param, ctx)
        return {"days": days, "start": found[2], "end": found[3]}


def _days(text: str) -> list[str] | None:
    days = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return None
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 + 1 if dash else 1
        days += [DAYS[(begin + offset) % 7] for offset in range(count)]
    return days


@click.group()
def maintenance() -> None:
    """Say when schedules may disturb a device; without hours, at any time."""


@maintenance.command("show")
@click.argument("device_ref", metavar="DEVICE")
@pass_api
def show_maintenance(api: Api, device_ref: str) -> None:
    """Show a device's maintenance hours."""
    found = api.get(f"/devices/{id_of(api, '/devices', device_ref)}/maintenance")
    api.show(found["hours"], ["days", "start", "end"])


@maintenance.command("set")
@click.argument("device_ref", metavar="DEVICE")
@click.argument("hours", nargs=-1, required=True, type=_Hours())
@pass_api
def set_maintenance(api: Api, device_ref: str, hours: tuple[dict[str, Any], ...]) -> None:
    """Set them: 'mon-fri 02:00-05:00', as many as needed, in the site's time zone."""
    _put(api, device_ref, list(hours))


@maintenance.command("clear")
@click.argument("device_ref", metavar="DEVICE")
@pass_api
def clear_maintenance(api: Api, device_ref: str) -> None:
    """At any time again."""
    _put(api, device_ref, [])


def _put(api: Api, device_ref: str, hours: list[dict[str, Any]]) -> None:
    path = f"/devices/{id_of(api, '/devices', device_ref)}/maintenance"
    etag = api.request("GET", path).headers.get("etag", "*")
    headers = {"If-Match": etag}
    changed = api.request("PUT", path, json={"hours": hours}, headers=headers).json()
    api.show(changed["hours"], ["days", "start", "end"])
