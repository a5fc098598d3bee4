"""A store, its catalog, and an index that is migrated already, which takes a tenth of a second, for each test."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / NAME
    Index.open(path).close()
    return path


@pytest.fixture
def migrated(empty_index: Path, tmp_path: Path) -> Path:
    """tmp_path with an empty index in it. Returns the path of the index."""
    copy = tmp_path / NAME
    shutil.copy(empty_index, copy)
    return copy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "dumps")


@pytest.fixture
def catalog(migrated: Path, store: Store) -> Iterator[LocalCatalog]:
    with LocalCatalog(migrated.parent) as opened:
        yield opened
