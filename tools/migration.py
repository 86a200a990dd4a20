"""Write the next migration: what the models have and the migrations so far do not.

python tools/migration.py what_it_does
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command

from haechi import migrations
from haechi.core.db import Database


async def write(message: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = Database(Path(folder) / "control.db")
        if any((migrations.FOLDER / "versions").glob("*.py")):
            await migrations.upgrade(db)
        async with db.engine.begin() as connection:
            await connection.run_sync(_revision, message)
        await db.close()


def _revision(connection: sa.Connection, message: str) -> None:
    made = migrations.config()
    made.attributes["connection"] = connection
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    number = len(list((migrations.FOLDER / "versions").glob("*.py"))) + 1
    command.revision(made, message, autogenerate=True, rev_id=f"{number:04}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("usage: make migration name=what_it_does")
    asyncio.run(write(sys.argv[1]))
