"""Sealed JSON: canonical text and its digest, store.md section 2. Knows the forms of numbers and texts, no member."""

from __future__ import annotations

import json
import re
from hashlib import sha256

# Everything else stands in a string as it is: U+0020..U+007F but for these two [S-10].
ESCAPED = re.compile(r'["\\]|[^\x20-\x7f]')
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class SealError(Exception):
    """The file is not a sealed object; it is damaged [S-11], or of a format that is not known [S-12]."""


def canonical(value: object) -> bytes:
    """Canonical text of value, with its line feed [S-10]. Raises SealError for what has none."""
    try:
        return _text(value).encode("ascii") + b"\n"
    except RecursionError as error:
        raise SealError("nested too deeply") from error


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_string(name)}:{_text(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(member) for member in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    if isinstance(value, int):
        return str(value)
    raise SealError(f"{value!r} has no canonical text")


def _string(text: str) -> str:
    return '"' + ESCAPED.sub(lambda match: _escape(match[0]), text) + '"'


def _escape(character: str) -> str:
    """Escape one character: the short form, or UTF-16 units, so that those beyond U+FFFF become a pair [S-10].

    Raises SealError for half of a pair.
    """
    try:
        units = character.encode("utf-16-be").hex()
    except UnicodeEncodeError as error:
        raise SealError("a lone surrogate") from error
    return SHORT.get(character) or "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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
