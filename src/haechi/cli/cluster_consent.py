"""The options by which `haechi cluster` is told what may be done to the hosts that it takes."""

from typing import Any, Final

import click

TRUST: Final = "host_key_unknown"
_OPTIONS: Final = [
    click.option("--accept", multiple=True, help="Name of a warning that you accept; repeatable."),
    click.option(
        "--trust-hosts", is_flag=True, help="Pin the keys that hosts show at first contact."
    ),
    click.option("--clean-leftovers", is_flag=True, help="Remove what an earlier cluster left."),
]


def consent_options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def consent_of(options: dict[str, Any]) -> dict[str, Any]:
    """Takes them out of the command's options; as the API has them."""
    accept = [*options.pop("accept")]
    if options.pop("trust_hosts"):
        accept.append(TRUST)
    return {"accept": accept, "clean_leftovers": options.pop("clean_leftovers")}
