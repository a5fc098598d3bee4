"""The bundled sample: a real crash dump. README.md beside this file says where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from netdump.codec import expand

CORE: Final = Path(__file__).parent / "x86_64-6.1-256M.d31.elf.zst"
CORE_BYTES: Final = 95_073_312
CORE_SHA256: Final = "0e2965c4233c44ebb8dcee42de3a941a4b27fb001c57a8e68df73d52941400b0"
_WINDOW_MAX: Final = 1 << 27  # it was made with zstd --long=27


def write_core(target: Path) -> int:
    """Write the sample, decompressed, to a new file, and return its bytes. Raises OSError, CodecError."""
    with CORE.open("rb") as source, target.open("xb") as sink:
        return expand(source, sink, _WINDOW_MAX)
