"""Writes protocol/vectors/store: ``python -m tests.protocol.generate_store``. Uses nothing of netdump."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.protocol import cases_store

if TYPE_CHECKING:
    from tests.protocol.vector_file import Vector

FOLDER: Final = Path(__file__).parents[2] / "protocol" / "vectors" / "store"
SUFFIX: Final = ".dump"


def generate() -> dict[str, Vector]:
    """All vectors by name."""
    vectors: dict[str, Vector] = {}
    for vector in cases_store.vectors():
        assert vector.name not in vectors, f"two vectors are named {vector.name}"
        vectors[vector.name] = vector
    return vectors


def main() -> None:
    """Write every file anew and remove those that are no more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    vectors = generate()
    for path in FOLDER.glob(f"*{SUFFIX}"):
        if path.stem not in vectors:
            path.unlink()
    for vector in vectors.values():
        (FOLDER / f"{vector.name}{SUFFIX}").write_text(vector.text(), encoding="ascii")


if __name__ == "__main__":
    main()
