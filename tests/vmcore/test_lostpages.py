"""The list of what could not be read when a core was saved: what is one, and whose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import SourceUnreadableError
from netdump.vmcore import lostpages
from netdump.vmcore.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

ME = os.geteuid()
STRETCHES = [(0, 1), (4096, 8192), (1 << 52, 4096)]


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(b"\xaa" * 4 * 4096)
    return path


@pytest.fixture
def listed(core: Path) -> Path:
    return core.with_name("core.lost")


@pytest.mark.parametrize("count", range(4))
def test_what_is_packed_is_read(core: Path, listed: Path, count: int) -> None:
    listed.write_bytes(lostpages.pack(STRETCHES[:count]))
    assert lostpages.read(str(core), ME) == [(start, start + length) for start, length in STRETCHES[:count]]


def test_a_full_list_is_read(core: Path, listed: Path) -> None:
    most = lostpages.STRETCHES_MAX
    listed.write_bytes(lostpages.pack([(10**19 - 1, 10**19 - 1)] * (most + 1)))
    assert len(lostpages.read(str(core), ME)) == most


@pytest.mark.parametrize(
    "text", [b"\n", b"0 4096", b"0 0\n", b"00 1\n", b"1\n", b"-1 1\n", b"0 1\n\0" * 9, b"\0" * 99, b"x" * 200_000]
)
def test_a_damaged_list_is_not_believed(core: Path, listed: Path, text: bytes) -> None:
    listed.write_bytes(text)
    with pytest.raises(SourceUnreadableError, match=r"core\.lost is damaged.*remove it"):
        open_source(str(core), "file")


def test_what_is_no_list_of_ours(core: Path, listed: Path, tmp_path: Path) -> None:
    assert lostpages.read(str(core), ME) == []
    assert lostpages.read("c" * 300, ME) == []
    target = tmp_path / "elsewhere"
    target.write_bytes(lostpages.pack(STRETCHES))
    listed.symlink_to(target)
    assert lostpages.read(str(core), ME) == []
    listed.unlink()
    listed.mkdir()
    assert lostpages.read(str(core), ME) == []
    listed.rmdir()
    target.rename(listed)
    assert lostpages.read(str(core), ME + 1) == [], "another user's"


def test_a_list_that_cannot_be_read(core: Path, listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed.write_bytes(lostpages.pack(STRETCHES))

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    for call in ("pread", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(SourceUnreadableError, match=r"core\.lost cannot be read: Input/output error"):
                lostpages.read(str(core), ME)
