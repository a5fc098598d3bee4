"""A collector for each end-to-end test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.rig import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    running = Collector(tmp_path / "collector").start()
    yield running
    running.stop()
