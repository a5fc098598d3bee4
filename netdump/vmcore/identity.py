"""What tells an image apart from every other one: the ingredients of the dump id.

Owns which they are. Must not hash them (wire.dump_identity does). Spec: [W-30], [W-85], ADR 0004.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.namedtuple import NamedTuple
from netdump.vmcore.notes import vmcoreinfo_text

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.source import Source


class Ingredients(NamedTuple):
    """headers: ELF header and program header table; notes: see read_notes; extra: names the source where needed."""

    headers: bytes
    notes: bytes
    extra: bytes


def ingredients(source: Source, headers: ElfHeaders, notes: bytes) -> Ingredients:
    """Collect them; the same for the same image every time. notes: as read_notes gave them.

    Raises SourceUnreadableError where the source must be named and cannot be.
    """
    text = vmcoreinfo_text(notes, headers.byteorder) or b""
    unique = any(line.startswith(b"CRASHTIME=") for line in text.split(b"\n"))
    return Ingredients(headers.ehdr + headers.phdrs, notes, b"" if unique else source.identity())
