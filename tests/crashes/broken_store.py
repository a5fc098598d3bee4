"""Stores that are broken on purpose, for tests that the harnesses find them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.store import durable, writer

if TYPE_CHECKING:
    import pytest

    from netdump.store.files import File, Files


def trust_a_second_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with a file whose sync failed: the next one succeeds and has made nothing durable [S-04]."""
    real = durable.publish

    def stubborn(files: Files, file: File, partial: str, name: str) -> None:
        try:
            file.sync()
        except OSError:
            file.sync()
        real(files, file, partial, name)

    monkeypatch.setattr(writer, "publish", stubborn)
