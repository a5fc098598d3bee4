"""What other tools say of the real cores."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def whole(whole_core: Path) -> Path:
    """The whole core, by a short name."""
    return whole_core


@pytest.fixture(scope="session")
def dmesg() -> bytes:
    """What makedumpfile --dump-dmesg 1.7.2 reads out of either."""
    return (Path(__file__).parent / "data" / "x86_64-6.1-256M.dmesg.txt").read_bytes()
