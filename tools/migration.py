"""Write the next migration: what the models have and the migrations so far do not.

python tools/migration.py what_it_does
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from haechi import migrations
from haechi.core.db import Database


async def write(message: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = Database(Path(folder) / "control.db")
        if any((migrations.FOLDER / "versions").glob("0*.py")):
            await migrations.upgrade(db)
        async with db.engine.begin() as connection:
            await connection.run_sync(_revision, message)
        await db.close()


def _revision(connection: sa.Connection, message: str) -> None:
    made = migrations.config()
    made.attributes["connection"] = connection
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    number = len(list((migrations.FOLDER / "versions").glob("0*.py"))) + 1
    command.revision(made, message, autogenerate=True, rev_id=f"{number:04}")
    ruff = [sys.executable, "-m", "ruff"]
    for action in (["format", "-q"], ["check", "--fix", "-q"]):
        subprocess.run([*ruff, *action, migrations.FOLDER / "versions"], check=True, timeout=60)


async def check() -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = Database(Path(folder) / "control.db")
        await migrations.upgrade(db)
        async with db.engine.begin() as connection:
            await connection.run_sync(_check)
        await db.close()


def _check(connection: sa.Connection) -> None:
    made = migrations.config()
    made.attributes["connection"] = connection
    command.check(made)
    command.downgrade(made, "base")
    left = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    if left:
        raise CommandError(f"left after downgrading: {sorted(left)}")


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1]:
        print("usage: make migration name=what_it_does")
        return 2
    if sys.argv[1] != "--check":
        asyncio.run(write(sys.argv[1]))
        return 0
    try:
        asyncio.run(check())
    except CommandError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
