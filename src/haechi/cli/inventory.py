"""`haechi inventory`: all of it as one JSON document."""

import json
import sys
from typing import IO, NoReturn

import click

from haechi.cli.client import Api, pass_api


@click.group()
def inventory() -> None:
    """Export and import site, devices, cameras, links and groups."""


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
