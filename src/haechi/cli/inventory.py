"""`haechi inventory`: all of it as one JSON document, and as Ansible's dynamic inventory."""

import json
import sys
from typing import IO, NoReturn

import click

from haechi.cli.client import Api, pass_api


@click.group(invoke_without_command=True)
@click.option("--list", "listed", is_flag=True, help="Ansible's dynamic inventory, as JSON.")
@click.option("--host", help="One host of it; always empty, since --list says all.")
@click.pass_context
def inventory(ctx: click.Context, listed: bool, host: str | None) -> None:
    """Export and import site, devices, cameras, links and groups; list it for Ansible."""
    if ctx.invoked_subcommand is not None:
        return
    if listed:
        found = ctx.ensure_object(Api).get("/inventory/ansible")
        json.dump(found, sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    elif host is not None:  # Ansible asks for it only where `_meta` is missing
        sys.stdout.write("{}\n")
    else:
        click.echo(ctx.get_help())


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


@inventory.command("export")
@click.option("--output", "-o", type=click.File("w", encoding="utf-8", atomic=True))
@pass_api
def export_inventory(api: Api, output: IO[str] | None) -> None:
    """Write everything but secrets, to a file or to stdout."""
    document = api.get("/inventory/export")
    json.dump(document, output or sys.stdout, ensure_ascii=False, indent=2)
    (output or sys.stdout).write("\n")


@inventory.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@pass_api
def import_inventory(api: Api, file: IO[str], dry_run: bool) -> None:
    """Import a document ('-' for stdin), all or nothing. Historic master and device records are
    understood too; importing the same document again changes nothing.
    """
    try:
        document = json.load(file, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{file.name}: {error}") from error
    outcome = api.post("/inventory/import", document, dry_run=dry_run)
    if api.json_output:
        api.show(outcome)
        return
    rows = [{"change": "create", **item} for item in outcome["created"]]
    rows += [{"change": "update", **item} for item in outcome["updated"]]
    api.show(rows, ["change", "kind", "name", "id"])
    api.say(f"변경 없음: {outcome['unchanged']}개", f"Unchanged: {outcome['unchanged']}")
