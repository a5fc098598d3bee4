"""The table, the records and the migrations say the same."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.record import DumpRecord
from netdump.index.schema import APPLICATION_ID, DUMPS, METADATA, REVISION

if TYPE_CHECKING:
    from pathlib import Path


def test_a_column_for_each_field_of_a_record() -> None:
    assert [column.name for column in DUMPS.columns] == [*(field.name for field in fields(DumpRecord)), "seal"]


def test_migrations_make_the_schema(tmp_path: Path) -> None:
    Index.open(tmp_path / NAME).close()
    engine = create_engine(f"sqlite:///{tmp_path / NAME}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.execute(text("PRAGMA application_id")).scalar() == APPLICATION_ID
    engine.dispose()


def test_the_revision_is_that_of_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "netdump.index:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION
