"""The table of dumps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and its orders."""
    op.create_table(
        "dumps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("image_bytes", sa.BigInteger, nullable=False),
        sa.Column("page_bytes", sa.Integer, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("drill", sa.Boolean, nullable=False),
        sa.Column("kernel_release", sa.Text),
        sa.Column("kernel_version", sa.Text),
        sa.Column("machine", sa.Text),
        sa.Column("nodename", sa.Text),
        sa.Column("panic", sa.Text),
        sa.Column("crash_time", sa.BigInteger),
        sa.Column("completed", sa.BigInteger),
        sa.Column("durable_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.BigInteger, nullable=False),
        sa.Column("root", sa.Text),
        sa.Column("totals", sa.JSON(none_as_null=True)),
        sa.Column("excluded", sa.JSON, nullable=False),
        sa.Column("vmcore", sa.Boolean, nullable=False),
        sa.Column("remark", sa.Text),
        sa.Column("checked", sa.BigInteger),
        sa.Column("order_ns", sa.BigInteger, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
    )
    op.create_index("dumps_newest", "dumps", ["first_seen", "order_ns", "id"])
    op.create_index("dumps_host", "dumps", ["host", "first_seen", "order_ns", "id"])


def downgrade() -> None:
    """Nothing can be taken back: an index is made anew from the store instead (`netdump reindex`)."""
    raise NotImplementedError("make the index anew: netdump reindex DIR")
