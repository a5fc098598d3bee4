"""Real cores for every test: the bundled sample always, the whole one where its folder is at hand."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

from netdump import samples
from netdump.codec import expand

if TYPE_CHECKING:
    from collections.abc import Iterator

VMCORES = Path(os.environ.get("NETDUMP_VMCORES", Path(__file__).parents[2] / "shared" / "vmcores"))


gc.disable()  # until pytest has collected: nothing of that is garbage


@settings(max_examples=1, database=None)
@given(none())
def _any(nothing: None) -> None:
    assert nothing is None


def pytest_collection_finish() -> None:
    """Python's collector looks through all that lives, again and again; modules and tests stay to the end anyway."""
    _any()  # hypothesis looks for who holds its generator, and would not find the frozen
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundled core, 95 MB: makedumpfile -E -d 31 of a real crash."""
    path = tmp_path_factory.mktemp("sample") / "core"
    samples.write_core(path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def whole_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same crash as /proc/vmcore showed it, 218 MB. It is too large for the repository."""
    packed = VMCORES / "x86_64-6.1-256M.elf.zst"
    if not packed.exists():
        pytest.skip(f"{packed.name} is not at hand; NETDUMP_VMCORES names its folder")
    path = tmp_path_factory.mktemp("whole") / "core"
    with packed.open("rb") as source, path.open("xb") as core:
        expand(source, core, 1 << 27)
    yield path
    path.unlink()
