from __future__ import annotations

import struct

import pytest

from netdump.image.bzimage import Header, parse_header, with_room


def bzimage(*, version: int = 0x20F, sectors: int = 39, init: int = 0x100C000, magic: bytes = b"HdrS") -> bytes:
    image = bytearray(0x5000)
    image[0x1F1] = sectors
    image[0x202:0x206] = magic
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<I", image, 0x260, init)
    return bytes(image)


def test_room_for_what_it_unpacks() -> None:
    """The numbers are those of Debian's 6.1.0-50-686."""
    image = bzimage()
    assert parse_header(image) == Header(40 * 512, 0x100C000)
    roomy = with_room(image)
    assert len(roomy) - 40 * 512 == 0x100C000  # what kexec takes for the size of the kernel
    assert roomy.startswith(image)
    assert not any(roomy[len(image) :])
    assert parse_header(bzimage(sectors=0)) == Header(5 * 512, 0x100C000)


@pytest.mark.parametrize(
    "image",
    [b"", bytes(0x264), bzimage(version=0x209), bzimage(init=0), bzimage(init=1 << 29), bzimage(magic=b"MZ\0\0")],
)
def test_others_are_left_alone(image: bytes) -> None:
    assert parse_header(image) is None
    assert with_room(image) is image
