"""Seeded damage to sound inputs, for runs without a coverage-guided fuzzer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

# Numbers at which something ends, as they stand in both byte orders.
_NUMBERS: Final = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 36]
_LARGE: Final = [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_EDGES: Final = [
    number.to_bytes(size, order)
    for size, numbers in ((1, _NUMBERS[:5]), (2, _NUMBERS[:7]), (4, _NUMBERS[:11]), (8, _NUMBERS + _LARGE))
    for number in numbers
    for order in ("big", "little")
]
_WORDS: Final = [
    b"\0", b"\n", b"\r\n", b"../", b"/etc/passwd", b"%00", b"\x1b[2J", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800",
    b'"', b"'", b"{", b"}", b"[" * 64, b"]", b"null", b"true", b"-1", b"1e999", b"NaN", b"9" * 32, b"=", b",", b" ",
]  # fmt: skip


def mutated(random: Random, inputs: Sequence[bytes], bytes_max: int) -> bytes:
    """One of the inputs with one to eight kinds of damage, cut to bytes_max."""
    data = bytearray(random.choice(inputs))
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        _damage(random, data, inputs)
    return bytes(data[:bytes_max])


def _damage(random: Random, data: bytearray, inputs: Sequence[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    length = min(len(data) - place, random.choice((1, 2, 4, 8, 16, 64, 512)))
    match random.randrange(9):
        case 0 if place < len(data):
            data[place] ^= 1 << random.randrange(8)
        case 1 if place < len(data):
            data[place] = random.randrange(256)
        case 2:
            edge = random.choice(_EDGES)
            data[place : place + len(edge)] = edge
        case 3:
            data[place:place] = random.choice(_WORDS)
        case 4:
            del data[place : place + length]
        case 5:
            data[place:place] = data[place : place + length] * random.choice((1, 1, 2, 16))
        case 6:
            del data[place:]
        case 7:
            other = random.choice(inputs)
            start = random.randrange(len(other) + 1)
            data[place : place + length] = other[start : start + length]
        case _:
            data[place:place] = random.randbytes(length)
