"""Alembic's entry: always on a connection handed in (see `upgrade`)."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext

from haechi.core.db import UtcDateTime
from haechi.migrations.tables import metadata


def render_item(kind: str, item: Any, _autogen: AutogenContext) -> str | Literal[False]:
    """Our own types by their names, so that a migration reads as the models do."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "db.UtcDateTime()"
    if kind == "type" and isinstance(item, sa.JSON):
        return "db.Json"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    render_item=render_item,
    compare_type=True,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
