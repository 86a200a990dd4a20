"""`haechi media`: the video process of a device; the agent starts it."""

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
    "--rtsp-listen", default="", help="HOST:PORT to re-stream on [default: any free port]."
)
def media(data_dir: Path, rtsp_listen: str) -> None:
    """Hold this device's cameras and re-stream them (started by the agent)."""
    from haechi.media.main import run

    run(data_dir, rtsp_listen)
