"""`haechi operation`: long work that the server does."""

import click

from haechi.cli.client import Api, pass_api

COLUMNS = ["id", "kind", "subject", "state", "step", "requested_by", "created_at"]


@click.group()
def operation() -> None:
    """Look at, follow and cancel long work."""


@operation.command("list")
@click.option("--subject", help="Only those about this id.")
@click.option("--state", help="Only those in this state.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@pass_api
def list_operations(api: Api, subject: str | None, state: str | None, limit: int) -> None:
    """List operations, newest first."""
    api.show(api.get("/operations", subject=subject, state=state, limit=limit), COLUMNS)


@operation.command("show")
@click.argument("operation_id")
@pass_api
def show_operation(api: Api, operation_id: str) -> None:
    """Show one operation."""
    api.show(api.get(f"/operations/{operation_id}"))


@operation.command("log")
@click.argument("operation_id")
@pass_api
def show_log(api: Api, operation_id: str) -> None:
    """Print an operation's log so far."""
    click.echo(api.request("GET", f"/operations/{operation_id}/log").text, nl=False)


@operation.command("follow")
@click.argument("operation_id")
@pass_api
def follow(api: Api, operation_id: str) -> None:
    """Follow an operation until it ends; the exit code tells how."""
    api.show(api.follow_operation(operation_id))


@operation.command("cancel")
@click.argument("operation_id")
@pass_api
def cancel(api: Api, operation_id: str) -> None:
    """Ask an operation to stop and undo what it did."""
    api.show(api.post(f"/operations/{operation_id}/cancel"))
