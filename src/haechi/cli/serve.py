"""`haechi serve`: the server in one process."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

from haechi.errors import AppError


class _JsonLines(logging.Formatter):
    """One JSON object a line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str, form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx2", "httpcore2", "asyncio", "alembic", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.root.level))


def fail(ctx: click.Context, error: AppError) -> None:
    """Say an AppError as the CLI says the API's problems, and exit accordingly."""
    from haechi.cli.client import ApiError

    problem = error.problem(ctx.meta.get("language", "en"))
    raise ApiError(error.http_status, problem, as_json=ctx.meta.get("json", False))


@click.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Data folder.")
@click.option("--listen", help="HOST:PORT of dashboard and API.")
@click.option("--agents-listen", help="HOST:PORT where agents call in.")
@click.option("--registry-listen", help="HOST:PORT of the site registry.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_context
def serve(
    ctx: click.Context,
    data_dir: Path | None,
    listen: str | None,
    agents_listen: str | None,
    registry_listen: str | None,
    config: Path | None,
    log_level: str | None,
) -> None:
    """Run the server: dashboard, API, agents' listener and site registry."""
    from haechi import settings

    flags = {
        "server.data_dir": data_dir,
        "server.listen": listen,
        "agents.listen": agents_listen,
        "registry.listen": registry_listen,
        "log.level": log_level,
    }
    try:
        loaded = settings.load(flags=flags, file=config)
        set_up_logging(loaded.settings.log.level, loaded.settings.log.format)
        from haechi.app import run

        asyncio.run(run(flags=flags, file=config))
    except AppError as error:
        fail(ctx, error)
    except KeyboardInterrupt:
        sys.exit(130)
