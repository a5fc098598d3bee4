"""A collector for each end-to-end test, and one armed machine for all that crash it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e import i386, vm
from tests.e2e.armed import Armed
from tests.e2e.rig import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.image.kernel import Kernel


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    running = Collector(tmp_path / "collector").start()
    yield running
    running.stop()


@pytest.fixture
def guest_collector(tmp_path: Path) -> Iterator[vm.GuestCollector]:
    running = vm.GuestCollector(tmp_path / "collector")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    return vm.kernel()


@pytest.fixture(scope="session")
def root(kernel: Kernel) -> bytes:
    return vm.build_root(kernel)


@pytest.fixture(scope="session")
def armed(kernel: Kernel, root: bytes, tmp_path_factory: pytest.TempPathFactory) -> Armed:
    return Armed(vm.TWO_NODES, kernel, root, tmp_path_factory.mktemp("armed"))


@pytest.fixture(scope="session")
def armed_i386(tmp_path_factory: pytest.TempPathFactory) -> Armed:
    kernel = i386.kernel()
    folder = tmp_path_factory.mktemp("armed-i386")
    return Armed(i386.MACHINE, kernel, i386.build_root(kernel), folder, enrols_itself=False)
