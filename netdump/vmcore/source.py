"""Where an image is read from: what every source can do, and how one is opened.

Owns the contract of a source and the choice among its kinds. Must not know ELF.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol

from netdump.errors import SourceUnreadableError
from netdump.vmcore.filesource import FileSource

if TYPE_CHECKING:
    from netdump.vmcore.oldmem import ElfcoreHeader

Kind = Literal["auto", "vmcore", "file", "oldmem"]


class Source(Protocol):
    """An image that can be read at any offset, again and again, with the same result.

    size: bytes of the image, fixed when it was opened. name: the path, for messages. A source is used by one thread
    at a time.
    """

    @property
    def size(self) -> int: ...  # noqa: D102 - see the class

    @property
    def name(self) -> str: ...  # noqa: D102

    def read(self, offset: int, length: int) -> bytes:
        """Exactly length bytes, for headers and notes. Raises SourceUnreadableError if one of them cannot be read."""

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        """Fill buffer with the image from offset on, which ends within the image.

        Returns the stretches that could not be read as (start, length) relative to offset, ascending, in whole pages
        of the machine except where the buffer begins or ends; the buffer holds anything there. Never raises for a
        page that fails. Raises TruncatedCoreError or SourceUnreadableError where a file that
        somebody named has become shorter, or has gone.
        """

    def next_data(self, offset: int) -> int:
        """First offset, not less than the given one, that may hold anything but zeros; size if there is none.

        Cheap, and a hint only: a source that does not know returns offset.
        """

    def identity(self) -> bytes:
        """Names this image apart from every other one that this machine ever shows. Spec: [W-85]."""

    def close(self) -> None:
        """Give everything back. The source is of no use afterwards."""


def source_kind(path: str, kind: Kind = "auto", elfcorehdr: ElfcoreHeader | None = None) -> Kind:
    """Which kind of source open_source makes of these, without opening anything; never auto."""
    if kind != "auto":
        return kind
    if elfcorehdr is not None:
        return "oldmem"
    try:
        return "vmcore" if os.path.realpath(path).startswith("/proc/") else "file"
    except OSError:  # a relative path in a folder that is gone: opening it says so
        return "file"


def open_source(path: str, kind: Kind = "auto", elfcorehdr: ElfcoreHeader | None = None) -> Source:
    """Open an image. elfcorehdr: where the ELF headers stand, for oldmem and only for it.

    auto: oldmem if elfcorehdr is given, vmcore for a file below /proc, else file.
    Raises SourceUnreadableError, and for oldmem what its headers deserve (CoreError).
    """
    kind = source_kind(path, kind, elfcorehdr)
    if kind == "oldmem":
        if elfcorehdr is None:
            raise SourceUnreadableError(
                f"{path}: a memory image needs the address of its ELF headers: --elfcorehdr ADDR, "
                "as in the capture kernel's command line"
            )
        from netdump.vmcore.oldmem import OldmemSource  # noqa: PLC0415 - each run of the client needs one of three

        return OldmemSource(path, elfcorehdr)
    if elfcorehdr is not None:
        raise SourceUnreadableError(f"{path}: --elfcorehdr goes with --source oldmem only")
    if kind == "file":
        return FileSource(path, is_whole=True)
    from netdump.vmcore.procvmcore import VmcoreSource  # noqa: PLC0415

    return VmcoreSource(path)
