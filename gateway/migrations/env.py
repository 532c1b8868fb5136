"""Alembic's door: runs the migrations on the connection that `gateway.database.migrate` opened."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from gateway.database import metadata


def run(connection: Connection) -> None:
    """Upgrade in one transaction."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


run(context.config.attributes["connection"])
