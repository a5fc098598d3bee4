"""An index that is migrated already: migrating takes a tenth of a second, and hardly any test is about it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from netdump.index.index import Index
from netdump.index.place import NAME

if TYPE_CHECKING:
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
