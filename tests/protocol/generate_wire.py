"""Writes protocol/vectors/wire: ``python -m tests.protocol.generate_wire``. Uses nothing of netdump."""

from __future__ import annotations

from tests.protocol import cases_chunks, cases_digests, cases_frames, cases_messages, cases_scripts
from tests.protocol.vector_file import FOLDER, Vector

MODULES = (cases_frames, cases_messages, cases_chunks, cases_digests, cases_scripts)


def generate() -> dict[str, Vector]:
    """All vectors by name."""
    vectors: dict[str, Vector] = {}
    for module in MODULES:
        for vector in module.vectors():
            assert vector.name not in vectors, f"two vectors are named {vector.name}"
            vectors[vector.name] = vector
    return vectors


def main() -> None:
    """Write every file anew and remove those that are no more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    vectors = generate()
    for path in FOLDER.glob("*.vector"):
        if path.stem not in vectors:
            path.unlink()
    for vector in vectors.values():
        (FOLDER / f"{vector.name}.vector").write_text(vector.text(), encoding="ascii")


if __name__ == "__main__":
    main()
