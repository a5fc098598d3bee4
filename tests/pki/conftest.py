"""A collector's folder for each test, and things to show to it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from netdump.pki import Authority, init_authority
from tests.pki.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new collector's folder, made once because its many syncs take time."""
    directory = tmp_path_factory.mktemp("template") / "collector"
    init_authority(directory, NAMES)
    return directory


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """The folder of a collector that was just made."""
    directory: Path = shutil.copytree(template, tmp_path / "collector")
    return directory


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority.load(folder)


@pytest.fixture
def api(folder: Path) -> Iterator[Api]:
    with Api(folder) as api:
        yield api
