"""`haechi agent`: enrol this machine as a device, and run its agent."""

import os
import sys
from pathlib import Path

import click

from haechi.errors import AppError, Conflict, Forbidden, Language, NotFound, Upstream

_DATA_DIR = click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of this device's identity, queue and state.",
)


@click.group()
def agent() -> None:
    """The process on every device: samples, results, AI containers."""


@agent.command()
@click.option("--server", required=True, metavar="HOST:PORT", help="Agents listener.")
@click.option(
    "--token",
    required=True,
    envvar="HAECHI_ENROL_TOKEN",
    help="One-time token; `-` reads it from standard input.",
)
@click.option("--ca-fingerprint", required=True, help="SHA-256 of the site CA's certificate.")
@_DATA_DIR
@click.option("--force", is_flag=True, help="Enrol anew where a device is enrolled already.")
@click.pass_context
def enrol(
    ctx: click.Context,
    *,
    server: str,
    token: str,
    ca_fingerprint: str,
    data_dir: Path,
    force: bool,
) -> None:
    """Trade a one-time token for this device's certificate."""
    from haechi.agent.identity import enrol as enrol_device

    if token == "-":  # noqa: S105 - means standard input
        token = sys.stdin.readline().strip()
    try:
        device = enrol_device(
            data_dir, server=server, token=token, ca_fingerprint=ca_fingerprint, force=force
        )
    except AppError as error:
        _fail(ctx, error)
    else:
        korean = _language(ctx) == "ko"
        click.echo(
            f"장치 {device.device_id}(으)로 등록되었습니다."
            if korean
            else f"Enrolled as device {device.device_id}."
        )


@agent.command()
@_DATA_DIR
@click.option("--cgroup", default="", help="This device is the slice of that cgroup.")
@click.option(
    "--docker-socket",
    default="/var/run/docker.sock",
    show_default=True,
    help="Docker Engine of this device; empty: none.",
)
@click.option(
    "--node",
    is_flag=True,
    help="This device is a node of a cluster: serve its pods; no Docker is used.",
)
@click.option("--media/--no-media", default=True, help="Serve cameras on this device.")
@click.option("--intake-port", default=8430, show_default=True, help="Where AIs post results.")
@click.option("--docker-config", default="/etc/docker", hidden=True)
@click.option("--hosts-file", default="/etc/hosts", hidden=True)
@click.option(
    "--queue-limit-mb", default=1000, show_default=True, help="Size limit of the result queue."
)
@click.option(
    "--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
def run(
    *,
    data_dir: Path,
    cgroup: str,
    docker_socket: str,
    node: bool,
    media: bool,
    intake_port: int,
    docker_config: str,
    hosts_file: str,
    queue_limit_mb: int,
    log_level: str,
) -> None:
    """Run the agent until it is told to stop."""
    import json

    options = {
        "data_dir": str(data_dir.absolute()),
        "cgroup": cgroup,
        "docker_socket": "" if node else docker_socket,
        "node": node,
        "media": media,
        "intake_port": intake_port,
        "docker_config": docker_config,
        "hosts_file": hosts_file,
        "queue_limit_bytes": queue_limit_mb * 1_000_000,
        "log_level": log_level,
    }
    # This process becomes the agent: what the command line needed does not stay in memory, and
    # glibc keeps one arena instead of one per thread.
    environment = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", **os.environ}
    arguments = [sys.executable, "-m", "haechi.agent", "run", json.dumps(options)]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - no shell is meant


def _language(ctx: click.Context) -> Language:
    return "ko" if ctx.find_root().meta.get("language") == "ko" else "en"


def _fail(ctx: click.Context, error: AppError) -> None:
    text = error.problem(_language(ctx))
    if ctx.find_root().meta.get("json"):
        import json

        click.echo(json.dumps(text, ensure_ascii=False), err=True)
    else:
        click.echo(f"{text['detail']}\n{text['remedy']}".rstrip(), err=True)
    kinds = ((NotFound, 3), (Conflict, 4), (Forbidden, 6), (Upstream, 5))
    ctx.exit(next((code for kind, code in kinds if isinstance(error, kind)), 70))
