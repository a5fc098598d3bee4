"""Sealed JSON: canonical text and its digest, store.md section 2. Knows the forms of numbers and texts, no member."""

from __future__ import annotations

import json
from hashlib import sha256


class SealError(Exception):
    """The file is not a sealed object; it is damaged [S-11], or of a format that is not known [S-12]."""


def canonical(value: object) -> bytes:
    """Canonical text of value, with its line feed [S-10]. Raises SealError for what has none."""
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def _check(value: object) -> None:
    """Refuse floating-point numbers and member names that are no strings [S-10]."""
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise SealError(f"the member name {name!r} is no string")
            _check(member)
    elif isinstance(value, list):
        for member in value:
            _check(member)
    elif value is not None and not isinstance(value, bool | int | str):
        raise SealError(f"{value!r} has no canonical text")


def unseal(text: bytes, format_name: str) -> dict[str, object]:
    """Give the object that text seals, without its seal [S-11] [S-12]. Raises SealError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SealError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise SealError("not one JSON object")
    seal = value.get("sha256")
    if canonical(value) != text:
        raise SealError("not the canonical text")
    value.pop("sha256", None)
    if sha256(canonical(value)).hexdigest() != seal:
        raise SealError("the seal is another one")
    if value.get("format") != format_name:
        raise SealError(f"the format {value.get('format')!r} is not known")
    return value
