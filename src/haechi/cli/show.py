"""How the CLI shows things to people: tables, details, progress. rich is loaded only here."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from haechi.cli.client import Api

POLL_S: Final = 0.5
AWAY_S: Final = 60.0
"""A server that does not answer for so long is given up."""


def show(data: Any, columns: Sequence[str] | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    if isinstance(data, dict) and isinstance(data.get("items"), list):
        data = data["items"]
    if isinstance(data, list):
        _table(data, columns)
    elif isinstance(data, dict):
        _details(data)
    elif data is not None:
        click.echo(data)


def _table(rows: list[Any], columns: Sequence[str] | None) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(columns or (rows[0].keys() if rows else []))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name.rpartition(".")[2].upper(), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(_at(row, name)) for name in names))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _details(data: dict[str, Any]) -> None:
    width = max((len(key) for key in data), default=0)
    for key, value in data.items():
        click.echo(f"{key.ljust(width)}  {_cell(value)}")


def _at(row: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@contextmanager
def upload_progress(file: Path, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task(file.name, total=file.stat().st_size)
        yield lambda count: progress.advance(task, count)


def follow_operation(api: "Api", operation_id: str) -> Any:
    """Poll and print an operation's log lines and progress; a failure exits like its problem. A
    server that does not answer for a moment is asked again: the operation goes on without us.
    """
    from haechi.cli.client import UNREACHABLE, ApiError

    shown = 0
    answered_s = time.monotonic()
    while True:
        try:
            operation = api.get(f"/operations/{operation_id}")
            log = ""
            if not api.json_output:
                log = api.request("GET", f"/operations/{operation_id}/log").text
        except ApiError as error:
            away_s = time.monotonic() - answered_s
            if error.problem.get("code") != UNREACHABLE or away_s > AWAY_S:
                raise
            time.sleep(POLL_S)
            continue
        answered_s = time.monotonic()
        if not api.json_output:
            lines = log.splitlines()
            for line in lines[shown:]:
                click.echo(line, err=True)
            shown = len(lines)
        if operation["state"] in {"succeeded", "failed", "cancelled"}:
            break
        time.sleep(POLL_S)
    if operation["state"] == "succeeded":
        return operation
    problem = operation["error"] or {
        "code": "operations.cancelled",
        "detail": f"{operation_id}: {operation['state']}",
    }
    raise ApiError(problem.get("status", 409), problem, as_json=api.json_output)
