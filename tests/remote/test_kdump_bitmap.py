"""Bitmaps, held against a number."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.remote import kdump_bitmap
from netdump.remote.kdump_bitmap import BitmapWriter
from netdump.store.files import LocalFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

POSITION = 1000


@pytest.fixture(params=[1, 3, 65536])
def _window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdump_bitmap, "_WINDOW_BYTES", request.param)


def written(folder: Path, ranges: list[tuple[int, int]]) -> int:
    files = LocalFiles(folder)
    file = files.create("bitmap")
    writer = BitmapWriter(file, POSITION)
    for first, end in ranges:
        writer.set(first, end)
    writer.finish()
    data = file.read(0, file.size())
    file.close()
    files.unlink("bitmap")
    assert not any(data[:POSITION])
    return int.from_bytes(data[POSITION:], "little")


def pairs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(numbers)
    return zip(ordered[::2], ordered[1::2], strict=False)


@pytest.mark.usefixtures("_window")
def test_any_ranges() -> None:
    with TemporaryDirectory() as folder:

        @settings(derandomize=True, deadline=None)
        @given(st.lists(st.integers(0, 300), max_size=12))
        def check(numbers: list[int]) -> None:
            ranges = list(pairs(numbers))
            assert written(Path(folder), ranges) == sum(((1 << end - first) - 1) << first for first, end in set(ranges))

        check()


def test_a_sea_of_nothing_is_a_hole(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    file = files.create("bitmap")
    writer = BitmapWriter(file, 0)
    writer.set(3, 5)
    writer.set(1 << 40, (1 << 40) + 2_000_000)
    writer.finish()
    file.close()
    path = tmp_path / "bitmap"
    assert path.stat().st_size == (1 << 37) + 250_000
    assert path.stat().st_blocks * 512 < 600_000
