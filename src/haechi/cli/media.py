"""`haechi media`: the video process of a device; the agent starts it."""

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of its state and control socket.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "go2rtc", "pyav"]),
    default="auto",
    show_default=True,
    help="What relays the streams.",
)
def media(data_dir: Path, backend: str) -> None:
    """Hold this device's cameras and re-stream them (started by the agent)."""
    from haechi.media.main import run

    sys.exit(run(data_dir, backend))
