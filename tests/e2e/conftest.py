"""The cores that the end-to-end tests send, and a collector for each test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump import samples
from netdump.codec import expand
from tests.e2e.rig import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

VMCORES = Path(os.environ.get("NETDUMP_VMCORES", Path(__file__).parents[3] / "shared" / "vmcores"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled real core, 95 MB."""
    target = tmp_path_factory.mktemp("sample") / "core"
    samples.write_core(target)
    return target


@pytest.fixture(scope="session")
def whole_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole /proc/vmcore of the same crash, 218 MB. It is too large for the repository."""
    source = VMCORES / "x86_64-6.1-256M.elf.zst"
    if not source.exists():
        pytest.skip(f"{source.name} is not at hand; NETDUMP_VMCORES names its folder")
    target = tmp_path_factory.mktemp("whole") / "core"
    with source.open("rb") as packed, target.open("xb") as core:
        expand(packed, core, 1 << 27)
    return target


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    running = Collector(tmp_path / "collector").start()
    yield running
    running.stop()
