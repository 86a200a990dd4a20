"""`haechi site`: the one site."""

from typing import Any

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import GPS, given


@click.group()
def site() -> None:
    """Show and describe the site."""


@site.command("show")
@pass_api
def show_site(api: Api) -> None:
    """Show the site."""
    api.show(api.get("/site"))


@site.command("edit")
@click.option("--name")
@click.option("--description")
@click.option("--postal-address")
@click.option("--gps", type=GPS, help="LATITUDE,LONGITUDE; '' clears it.")
@click.option("--timezone", help="For example Asia/Seoul.")
@pass_api
def edit_site(api: Api, /, **options: Any) -> None:
    """Change what is said of the site."""
    api.show(api.edit("/site", given(options, clearable=frozenset({"gps"}))))
