"""A collector's folder and a way to run commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.pki import init_authority
from tests.cli.commands import Shell
from tests.pki.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a collector that has nothing but its authority."""
    directory = tmp_path / "collector"
    init_authority(directory, ["localhost", "127.0.0.1"])
    return directory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def api(folder: Path) -> Iterator[Api]:
    with Api(folder) as api:
        yield api
