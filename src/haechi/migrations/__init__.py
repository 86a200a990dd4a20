"""Migrations of the control DB: `upgrade()` brings a file to this release's shape."""

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from haechi.core.db import Database, DatabaseDamaged, DatabaseNewer

FOLDER = Path(__file__).parent


def config() -> Config:
    """Alembic's configuration, made in code so that it works from an installed wheel."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    return made


async def upgrade(db: Database) -> None:
    """Run what is missing, in one transaction; a half-done migration is rolled back. Raises
    DatabaseDamaged, DatabaseNewer.
    """
    try:
        await _upgrade_all(db)
    except sa.exc.OperationalError:
        raise  # locked, or a disk that is full: not the file's content
    except sa.exc.DatabaseError as error:
        raise DatabaseDamaged(path=str(db.path), reason=str(error.orig)) from error
    except CommandError as error:
        raise DatabaseNewer(path=str(db.path), revision=str(error)[:200]) from error


async def _upgrade_all(db: Database) -> None:
    async with db.engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        await connection.commit()
        async with connection.begin():
            await connection.run_sync(_upgrade)
            broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
            if broken:
                raise RuntimeError(f"migration breaks foreign keys: {broken[:5]}")
        await connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        await connection.commit()
    await asyncio.sleep(0)


def _upgrade(connection: sa.Connection) -> None:
    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")
