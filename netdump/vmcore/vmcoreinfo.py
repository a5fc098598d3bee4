"""VMCOREINFO: what the dead kernel says of its own symbols, sizes and offsets.

Owns the text format. Must not know what a key is good for. An absent key is unknown: it reads as None, never as 0.
"""

from __future__ import annotations

from typing import Final, Literal

from netdump.errors import KernelDataError

VMCOREINFO_BYTES_MAX: Final = 0x1_0000
"""One page of the kernel: 64 KiB at most. What follows is ignored."""

_VALUE_CHARS_MAX: Final = 24  # a 64-bit number in decimal, with sign


class Vmcoreinfo:
    """The keys of a VMCOREINFO text. Where a key stands twice, the first counts, as for makedumpfile and crash."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    @classmethod
    def parse(cls, text: bytes) -> Vmcoreinfo:
        """Read lines KEY=VALUE; others are skipped, and so is one that is cut off: half a number is another number.

        Raises nothing. Source: Linux kernel/vmcore_info.c.
        """
        values: dict[str, str] = {}
        text = text[:VMCOREINFO_BYTES_MAX]
        for line in (text[: text.rfind(b"\n") + 1] if is_cut_off(text) else text).split(b"\n"):
            key, equals, value = line.partition(b"=")
            if equals:
                values.setdefault(key.decode("ascii", "replace"), value.decode("ascii", "replace"))
        return cls(values)

    def value(self, key: str) -> str | None:
        """The text of a plain key, such as OSRELEASE, PAGESIZE, CRASHTIME."""
        return self._values.get(key)

    def count(self, key: str) -> int | None:
        """A plain key as an unsigned decimal number, None if absent or not one."""
        return _number(self._values.get(key), 10)

    def symbol(self, name: str) -> int | None:
        """Address of a symbol, with the shift of KASLR."""
        return _number(self._values.get(f"SYMBOL({name})"), 16)

    def size(self, name: str) -> int | None:
        """Bytes of a structure."""
        return _number(self._values.get(f"SIZE({name})"), 10)

    def offset(self, name: str) -> int | None:
        """Bytes from the start of a structure to a member: "page.flags"."""
        return _number(self._values.get(f"OFFSET({name})"), 10)

    def length(self, name: str) -> int | None:
        """Elements of an array."""
        return _number(self._values.get(f"LENGTH({name})"), 10)

    def number(self, name: str) -> int | None:
        """A number, signed; architectures write some of theirs in hexadecimal with 0x."""
        text = self._values.get(f"NUMBER({name})")
        if text is not None and text.startswith("0x"):
            return _number(text[2:], 16)
        if text is not None and text.startswith("-"):
            positive = _number(text[1:], 10)
            return None if positive is None else -positive
        return _number(text, 10)

    def need(self, kind: Literal["SYMBOL", "SIZE", "OFFSET"], name: str) -> int:
        """A key without which a structure cannot be read. Raises KernelDataError if it is absent or not a number."""
        value = _number(self._values.get(f"{kind}({name})"), 16 if kind == "SYMBOL" else 10)
        if value is None:
            raise KernelDataError(f"VMCOREINFO has no {kind}({name})")
        return value


def is_cut_off(text: bytes) -> bool:
    """Whether a VMCOREINFO text ends in the middle of a line; CRASHTIME, the last, had no line end in old kernels."""
    last = text[text.rfind(b"\n") + 1 :]
    return bool(last) and not last.startswith(b"CRASHTIME=")


def _number(text: str | None, base: int) -> int | None:
    """An unsigned 64-bit number, None for anything else: int() alone would take blanks, signs and underscores."""
    if text is None or not text.isascii() or not text.isalnum() or len(text) > _VALUE_CHARS_MAX:
        return None
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if value < 1 << 64 else None
