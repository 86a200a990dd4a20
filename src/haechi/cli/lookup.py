"""What the nouns of the inventory and packages share on the command line: names for ids, fields,
secrets that never stand on a command line.
"""

import sys
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import click

from haechi.cli.client import Api

Gps = dict[str, float] | Literal[""]


class GpsType(click.ParamType[Gps]):
    """`37.57,126.98`; an empty text clears it."""

    name = "LAT,LON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Gps:
        text = str(value)
        if not text:
            return ""
        latitude, _, longitude = text.partition(",")
        try:
            return {"latitude": float(latitude), "longitude": float(longitude)}
        except ValueError:
            self.fail(f"{text!r} is not LATITUDE,LONGITUDE", param, ctx)


class PairType(click.ParamType[tuple[str, str]]):
    """`key=value`."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


GPS = GpsType()
PAIR = PairType()


def id_of(api: Api, path: str, ref: str) -> str:
    """The id of what a person calls by id or by name; an unknown name is left for the API to
    refuse.
    """
    found = api.get(path, name=ref)["items"] if len(ref) <= 128 else []
    return str(found[0]["id"]) if len(found) == 1 else ref


def known_id_of(api: Api, path: str, ref: str) -> str:
    """As `id_of`, where the call that follows would not refuse an unknown one: exit code 3."""
    return str(api.get(f"{path}/{quote(id_of(api, path, ref), safe='')}")["id"])


def given(options: Mapping[str, Any], *, clearable: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The options that were used; an empty text clears what may be cleared."""
    return {
        key: None if value == "" and key in clearable else value
        for key, value in options.items()
        if value is not None and value != ()
    }


def ask_secret(prompt: str, *, from_stdin: bool) -> str:
    """A password from stdin or the terminal: arguments are visible in process lists."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    text: str = click.prompt(prompt, hide_input=True, default="", show_default=False, err=True)
    return text
