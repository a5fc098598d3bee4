"""What every source must do. Each source's own test opens one on the image below and hands it in."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.errors import SourceUnreadableError
from netdump.testing.elf_writer import counter_pages

if TYPE_CHECKING:
    from netdump.vmcore.source import Source

IMAGE = counter_pages(1, 40) + bytes(3 * 4096) + counter_pages(100, 2)


def check_reads(source: Source, image: bytes) -> None:
    """The same bytes whatever the offset and the length, metadata and pages alike."""
    assert source.size == len(image)
    generator = random.Random(1)
    for _ in range(200):
        offset = generator.randrange(len(image))
        length = min(generator.choice((1, 7, 4096, 10_000, 300_000)), len(image) - offset)
        assert source.read(offset, length) == image[offset : offset + length]
        buffer = bytearray(length + 2)
        assert source.read_into(offset, memoryview(buffer)[1:-1]) == []
        assert buffer == b"\0" + image[offset : offset + length] + b"\0"
    assert source.read(0, 0) == b""


def check_end(source: Source, image: bytes) -> None:
    """Nothing stands beyond the end; metadata that is not there is an error, with the source's name in it."""
    with pytest.raises(SourceUnreadableError, match=source.name):
        source.read(len(image) - 1, 2)


def check_hints(source: Source, image: bytes) -> None:
    """next_data never skips anything but zeros, and never goes back."""
    for offset in range(0, len(image), 4096):
        data = source.next_data(offset)
        assert offset <= data <= len(image)
        assert not any(image[offset:data])


def check_identity(source: Source) -> None:
    """Says something, and the same each time."""
    assert source.identity()
    assert source.identity() == source.identity()


def check_source(source: Source, image: bytes) -> None:
    """All of the contract; closes the source, twice."""
    check_reads(source, image)
    check_end(source, image)
    check_hints(source, image)
    check_identity(source)
    source.close()
    source.close()
