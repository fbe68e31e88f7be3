"""Alembic runs this for each upgrade; the connection comes from `Store.open`, in a transaction of its own."""

from __future__ import annotations

from alembic import context

from bottega.workshop.schema import Base
from bottega.workshop.store import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata,
                  version_table=VERSION_TABLE, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
