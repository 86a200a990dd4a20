"""Alembic's entry: always on a connection handed in (see `upgrade`)."""

from alembic import context

from haechi.migrations.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    user_module_prefix="db.",
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
