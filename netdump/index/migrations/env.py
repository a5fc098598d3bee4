"""What Alembic runs to migrate: the connection comes from Index, inside its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from netdump.index.schema import METADATA

_connection = context.config.attributes["connection"]
assert isinstance(_connection, Connection)
context.configure(connection=_connection, target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
