"""`haechi audit`: who changed what."""

import click

from haechi.cli.client import Api, pass_api


@click.group()
def audit() -> None:
    """Read the audit log (administrators)."""


@audit.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_audit(api: Api, limit: int) -> None:
    """The newest changes first."""
    api.show(api.get("/audit", limit=limit), ["at", "by_name", "action", "subject", "details"])
