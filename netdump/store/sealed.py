"""Sealed JSON: small files that prove by themselves that they are whole (store.md section 2).

Owns canonical text and the seal. Must not know what the members mean.

An object with a long array is made and read an item at a time: json lets no other thread have its turn before it is
through with what it was given, which would be seconds for 256 MiB, and takes eight times as much memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final, NoReturn

from netdump.store.findings import Damage, DamageFoundError, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SEAL: Final = "sha256"
FORMAT: Final = "format"
_NUMBER_MAX: Final = 1 << 64


# What json escapes and the law does not: U+007F, behind an even number of backslashes.
_DELETE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u007f")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(members: Mapping[str, object]) -> bytes:
    """The canonical text of an object: one line of ASCII.

    Members may be str, int, bool, None, lists and dicts. Spec: [S-10].
    """
    text = _ENCODER.encode(members)
    if "\\u007f" in text:
        text = _DELETE.sub("\\1\x7f", text)
    return text.encode() + b"\n"


def _holds_lone_surrogate(members: Mapping[str, object], data: bytes) -> bool:
    """data: their canonical text. Spec: [S-10]."""
    if b"\\ud" not in data:  # as in nearly all; a manifest may have 256 MiB
        return False
    try:
        json.dumps(members, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def seal(members: Mapping[str, object]) -> bytes:
    """The sealed file of an object that has no member ``sha256`` yet. Spec: [S-11]."""
    assert SEAL not in members
    return canonical({**members, SEAL: hashlib.sha256(canonical(members)).hexdigest()})


def seal_long(members: Mapping[str, object], name: str, items: Iterable[Mapping[str, object]]) -> bytes:
    """The sealed file of an object that has the items, objects, in an array as its member of that name.

    No name of a member may have a quotation mark.
    """
    assert SEAL not in members
    body = bytearray()
    for item in items:
        body += b"," if body else b""
        body += canonical(item)[:-1]
    digest = hashlib.sha256()
    for part in _around({**members, name: []}, name, body):
        digest.update(part)
    return b"".join(_around({**members, name: [], SEAL: digest.hexdigest()}, name, body))


_Part = bytes | bytearray | memoryview


def _around(members: Mapping[str, object], name: str, body: _Part) -> tuple[bytes, _Part, bytes]:
    """The canonical text of an object with body in its array of that name, which is empty, in parts."""
    head, mark, tail = canonical(members).partition(_mark(name).encode())
    return head + mark, body, tail


def _mark(name: str) -> str:
    """Where the array begins. No text that is a value can look like it: a quotation mark in one has a backslash before
    it, and none behind one has a colon.
    """
    return f'"{name}":['


def unseal(data: bytes, expected_format: str, file: str) -> Members:
    """The members of a sealed file, the seal checked and taken off. file: its name, for the error.

    data: the whole file, whose size the caller has bounded. Raises DamageFoundError (not-sealed, format). Spec:
    [S-11], [S-12].
    """
    try:
        members = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError):
        # ValueError: no UTF-8, no JSON, or a number that the law does not allow; RecursionError: brackets without end.
        raise _not_sealed(file, "it is not JSON of the allowed kinds") from None
    if not isinstance(members, dict):
        raise _not_sealed(file, "it is not a JSON object")
    _check_canonical(members, data, file)
    digest = members.pop(SEAL, None)
    if digest != hashlib.sha256(canonical(members)).hexdigest():
        raise _not_sealed(file, "its sha256 is not that of its content")
    return _of_format(members, expected_format, file)


def unseal_long(data: bytes, expected_format: str, file: str, name: str) -> tuple[Members, Iterator[Members]]:
    """As unseal(); of the array of that name, whose items are objects, one after the other and nothing in the members.

    The iterator raises as unseal() does, for what was sealed by somebody else.
    """
    text = data.decode("latin-1")  # what is not ASCII will not be canonical
    start = text.find(_mark(name)) + len(_mark(name))
    if start < len(_mark(name)):  # there is none
        members = unseal(data, expected_format, file)
        return members, iter(members.children(name))
    try:
        end = _end_of_items(text, start)
        rest = text[:start] + text[end:]
        members = json.loads(rest, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _not_sealed(file, "it is not JSON of the allowed kinds") from None
    if not isinstance(members, dict) or members.get(name) != []:
        raise _not_sealed(file, f"it is not a JSON object with an array {name}")
    _check_canonical(members, rest.encode("latin-1"), file)
    seal_found, digest = members.pop(SEAL, None), hashlib.sha256()
    for part in _around(members, name, memoryview(data)[start:end]):
        digest.update(part)
    if seal_found != digest.hexdigest():
        raise _not_sealed(file, "its sha256 is not that of its content")
    found = _of_format(members, expected_format, file)
    return found, _items(text, start, end, found, name)


def _end_of_items(text: str, at: int) -> int:
    """Where the items of an array end whose first one begins at a position. Raises ValueError, RecursionError."""
    if text[at : at + 1] == "]":
        return at
    while True:
        _, at = _DECODER.raw_decode(text, at)
        if text[at : at + 1] != ",":
            return at
        at += 1


def _items(text: str, at: int, end: int, members: Members, name: str) -> Iterator[Members]:
    """The items of the array of that name, which _end_of_items has gone through."""
    while at < end:
        value, after = _DECODER.raw_decode(text, at)
        if not isinstance(value, dict):
            raise members.wrong(f"{name} is not an array of objects")
        _check_canonical(value, text[at:after].encode("latin-1") + b"\n", members.file)
        yield Members(value, members.file)
        at = after + 1


def _check_canonical(members: Mapping[str, object], data: bytes, file: str) -> None:
    """data: what members were read from. Raises DamageFoundError. Spec: [S-12]."""
    if canonical(members) != data or _holds_lone_surrogate(members, data):
        raise _not_sealed(file, "it is not canonical text")


def _of_format(members: dict[str, object], expected_format: str, file: str) -> Members:
    """The members, if they are of that format."""
    if members.get(FORMAT) != expected_format:
        text = f"its format is {members.get(FORMAT)!r} instead of {expected_format!r}"
        raise DamageFoundError(Finding(Damage.FORMAT, file, None, text))
    return Members(members, file)


class Members:
    """The members of an unsealed object, taken out by kind and range. Each method raises DamageFoundError (content)."""

    __slots__ = ("_values", "file")

    def __init__(self, values: Mapping[str, object], file: str) -> None:
        self._values: Final = values
        self.file: Final = file

    def number(self, name: str, low: int = 0, high: int = _NUMBER_MAX) -> int:
        """An integer of low .. high."""
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(f"{name} is not an integer of {low} .. {high}")
        return value

    def optional_number(self, name: str) -> int | None:
        """As number(), or None for null."""
        return None if self.is_null(name) else self.number(name)

    def is_null(self, name: str) -> bool:
        """Whether it is there, and null."""
        return self._values.get(name, "") is None

    def text(self, name: str, longest: int = 1024) -> str:
        """A string of at most that many characters."""
        value = self._values.get(name)
        if not isinstance(value, str) or len(value) > longest:
            raise self.wrong(f"{name} is not a string of at most {longest} characters")
        return value

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self.wrong(f"{name} is not a boolean")
        return value

    def octets(self, name: str, size: int) -> bytes:
        """Bytes that stand as lower-case hexadecimal digits. size: bytes."""
        value = self._values.get(name)
        if isinstance(value, str) and len(value) == 2 * size and set(value) <= set("0123456789abcdef"):
            return bytes.fromhex(value)
        raise self.wrong(f"{name} is not {2 * size} lower-case hexadecimal digits")

    def optional_octets(self, name: str, size: int) -> bytes | None:
        """As octets(), or None for null."""
        return None if self.is_null(name) else self.octets(name, size)

    def child(self, name: str) -> Members:
        """An object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(f"{name} is not an object")
        return Members(value, self.file)

    def children(self, name: str) -> list[Members]:
        """An array of objects."""
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(f"{name} is not an array of objects")
        return [Members(item, self.file) for item in value]

    def names(self) -> list[str]:
        """The names of all members, sorted."""
        return sorted(self._values)

    def wrong(self, text: str) -> DamageFoundError:
        """The error for members that are not what they must be."""
        return DamageFoundError(Finding(Damage.CONTENT, self.file, None, text))


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER: Final = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)


def _not_sealed(file: str, text: str) -> DamageFoundError:
    return DamageFoundError(Finding(Damage.NOT_SEALED, file, None, text))
