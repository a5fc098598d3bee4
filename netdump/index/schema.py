"""The table of the index, as SQLAlchemy Core sees it. The migrations make the same table; a test holds the two equal.

Owns columns and their order. Must not open databases.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text

REVISION: Final = "0001"
"""The version of the schema: the last revision in `migrations/versions`."""

APPLICATION_ID: Final = 0x4E444958
"""What `PRAGMA application_id` says in an index of netdump: "NDIX"."""

METADATA: Final = MetaData()

DUMPS: Final = Table(
    "dumps",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("image_bytes", BigInteger, nullable=False),
    Column("page_bytes", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("drill", Boolean, nullable=False),
    Column("kernel_release", Text),
    Column("kernel_version", Text),
    Column("machine", Text),
    Column("nodename", Text),
    Column("panic", Text),
    Column("crash_time", BigInteger),
    Column("completed", BigInteger),
    Column("durable_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("chunks", BigInteger, nullable=False),
    Column("root", Text),
    Column("totals", JSON(none_as_null=True)),
    Column("excluded", JSON, nullable=False),
    Column("vmcore", Boolean, nullable=False),
    Column("remark", Text),
    Column("checked", BigInteger),
    Column("order_ns", BigInteger, nullable=False),
    Column("seal", Text, nullable=False),
    Index("dumps_newest", "first_seen", "order_ns", "id"),
    Index("dumps_host", "host", "first_seen", "order_ns", "id"),
)
"""One row a dump, one column a field of DumpRecord; and seal, a digest of the others."""
