"""Migrations and models cannot drift apart, and a failed upgrade leaves the file as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from haechi import migrations
from haechi.core.db import Database

ROOT = Path(__file__).parents[3]


def test_migrations_make_what_the_models_say_and_go_back():
    done = subprocess.run(
        [sys.executable, "tools/migration.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_upgrade_is_idempotent_and_restores_foreign_keys(tmp_path):
    db = Database(tmp_path / "control.db")
    await migrations.upgrade(db)
    await migrations.upgrade(db)
    async with db.engine.connect() as connection:
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    await db.close()


async def test_a_failing_migration_leaves_nothing_half_done(tmp_path, monkeypatch):
    db = Database(tmp_path / "control.db")

    def broken(*_args, **_kwargs):
        raise RuntimeError("power loss")

    upgrade = command.upgrade

    def upgrade_then_break(made, target):
        upgrade(made, target)
        broken()

    monkeypatch.setattr(command, "upgrade", upgrade_then_break)
    with pytest.raises(RuntimeError):
        await migrations.upgrade(db)
    async with db.engine.connect() as connection:
        names = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
    assert names == []
    monkeypatch.undo()
    await migrations.upgrade(db)
    await db.close()
