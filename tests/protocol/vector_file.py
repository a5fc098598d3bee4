"""The vector file: reading and writing its form (protocol/vectors/README.md). Uses nothing of netdump."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "protocol" / "vectors" / "wire"
KINDS = ("frame", "document", "digest", "script")
CHECKS = ("structure", "content")
HEX_COLUMNS = 120


@dataclass(frozen=True, slots=True)
class Vector:
    """One vector. body: its lines, each split into words at most once per blank that the form knows."""

    name: str
    kind: str
    expect: str
    rules: tuple[str, ...]
    check: str
    comment: str
    body: tuple[str, ...]

    def text(self) -> str:
        """The file."""
        header = {
            "kind": self.kind,
            "expect": self.expect,
            "rule": ", ".join(self.rules),
            "check": self.check,
            "comment": self.comment,
        }
        lines = [f"{key}: {value}" for key, value in header.items()]
        return "\n".join((*lines, "", *self.body)) + "\n"

    def words(self, word: str) -> list[str]:
        """What follows this word, on each body line that begins with it, in order."""
        return [line[len(word) + 1 :] for line in self.body if line.startswith(word + " ")]

    def joined_bytes(self) -> bytes:
        """All ``bytes`` lines as one."""
        return bytes.fromhex("".join(self.words("bytes")))


def parse(name: str, text: str) -> Vector:
    """Read a file. Raises ValueError if it does not have exactly the keys that the README names."""
    head, _, rest = text.partition("\n\n")
    header = dict(line.split(": ", 1) for line in head.split("\n"))
    if set(header) != {"kind", "expect", "rule", "check", "comment"}:
        raise ValueError(f"{name}: keys {sorted(header)}")
    body = tuple(line for line in rest.split("\n") if line and not line.startswith("#"))
    rules = tuple(header["rule"].split(", "))
    return Vector(name, header["kind"], header["expect"], rules, header["check"], header["comment"], body)


def load() -> list[Vector]:
    """All vectors of the folder, by name."""
    return [parse(path.stem, path.read_text("ascii")) for path in sorted(FOLDER.glob("*.vector"))]


def hex_lines(word: str, raw: bytes) -> list[str]:
    """Bytes as body lines that all begin with the same word."""
    text = raw.hex()
    return [f"{word} {text[at : at + HEX_COLUMNS]}" for at in range(0, len(text), HEX_COLUMNS)]
