"""How the archive is packed: the best that the capture kernel can unpack.

Owns the choice and the limits of the kernel's decompressors (Linux lib/decompress_*.c, usr/Kconfig).
"""

from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

from netdump.codec import Compressor
from netdump.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.image.kernel import Kernel

LEVEL = 9  # 6.2 MiB in 0.6 s where level 19 makes 5.6 MiB in 18 s, and arming happens at every boot
LEVEL_MAX = 19  # above, zstd wants a window that the kernel must hold while it unpacks
NAMES = ("zstd", "xz", "gzip", "none")
_OPTIONS = {"zstd": "RD_ZSTD", "xz": "RD_XZ", "gzip": "RD_GZIP"}


def choose(kernel: Kernel, wanted: str | None = None) -> str:
    """Choose one of NAMES. wanted: the administrator's choice. Raises CompressionError if the kernel lacks it."""
    if wanted:
        option = _OPTIONS.get(wanted)
        if option and not kernel.enabled(option):
            raise CompressionError(
                f"kernel {kernel.release} cannot unpack {wanted} (CONFIG_{option} is not set): leave --compression "
                "away, or name another"
            )
        return wanted
    return next((name for name, option in _OPTIONS.items() if kernel.enabled(option)), "none")


def compress(name: str, data: bytes, level: int = LEVEL) -> bytes:
    """Compress an archive. name: one of NAMES. level: 1 .. LEVEL_MAX; above 9 only zstd knows a difference."""
    methods: dict[str, Callable[[], bytes]] = {
        "zstd": lambda: Compressor(min(level, LEVEL_MAX)).compress(data),
        "xz": lambda: lzma.compress(data, check=lzma.CHECK_CRC32, preset=min(level, 6)),  # 8 MiB to unpack
        "gzip": lambda: gzip.compress(data, min(level, 9), mtime=0),
        "none": lambda: data,
    }
    return methods[name]()
