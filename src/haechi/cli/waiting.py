"""Commands that begin an operation see it to its end, unless they are asked not to wait."""

from collections.abc import Sequence
from typing import Any

import click

from haechi.cli.client import EXIT_UPSTREAM, Api

no_wait_option = click.option("--no-wait", is_flag=True, help="Do not wait for the outcome.")


def follow(
    api: Api, started: Any, *, no_wait: bool, rows: str = "", columns: Sequence[str] = ()
) -> None:
    """Its outcome: a table of what its result has under `rows`, where there is such a thing. Exit
    code 5 where it succeeded and yet something of it failed.
    """
    if no_wait:
        api.show(started)
        return
    ended = api.follow_operation(started["operation_id"])
    result = ended.get("result", {})
    found = result.get(rows)
    if found and not api.json_output:
        api.show(list(found.values()) if isinstance(found, dict) else found, columns)
    else:
        api.show(ended)
    if result.get("failed"):
        raise click.exceptions.Exit(EXIT_UPSTREAM)
