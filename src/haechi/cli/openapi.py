"""`haechi openapi`: the API's description, without a running server."""

import json

import click


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of this release."""
    from haechi.app import describe_api

    click.echo(json.dumps(describe_api(), ensure_ascii=False, indent=1, sort_keys=True))
