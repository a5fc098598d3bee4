"""A way around kexec-tools on 32-bit x86: it puts small things where the capture kernel unpacks itself.

kexec_load with a bzImage reserves room for the packed kernel only (kexec/arch/i386/kexec-bzImage.c in 2.0.25), so the
random seed that it passes (setup_data) comes right behind and is overwritten; the kernel then takes a length out of
its own code for that of the seed, and panics early: "Cannot find place for new RAMDISK". On x86_64 it takes the room
from the header. Owns the few fields of that header (Linux Documentation/x86/boot.rst).
"""

from __future__ import annotations

import struct

from netdump.namedtuple import NamedTuple

MAGIC_AT, MAGIC = 0x202, b"HdrS"
HEADER_BYTES = 0x264
VERSION_MIN = 0x020A  # init_size came with it
INIT_SIZE_MAX = 1 << 28  # bytes; a kernel that is larger is none
SECTOR_BYTES = 512


class Header(NamedTuple):
    """setup_bytes: of the part for real mode. init_bytes: that the kernel needs while it unpacks itself."""

    setup_bytes: int
    init_bytes: int


def parse_header(image: bytes) -> Header | None:
    """Read the header of a bzImage; None if it is something else, or too old to say how much it needs."""
    if len(image) < HEADER_BYTES or image[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        return None
    (version,) = struct.unpack_from("<H", image, 0x206)
    (init_bytes,) = struct.unpack_from("<I", image, 0x260)
    if version < VERSION_MIN or not 0 < init_bytes <= INIT_SIZE_MAX:
        return None
    return Header(((image[0x1F1] or 4) + 1) * SECTOR_BYTES, init_bytes)


def with_room(image: bytes) -> bytes:
    """The same kernel with zeros behind it, so that kexec keeps the room free that it needs. Others as they are."""
    header = parse_header(image)
    if header is None:
        return image
    return image.ljust(header.setup_bytes + header.init_bytes, b"\0")
