"""What the init says goes to a list instead of this machine's kernel log."""

from __future__ import annotations

import pytest

MODULES = ("supervisor", "prepare", "network", "hardware", "finish", "save", "renewal")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in MODULES:
        for function in ("say", "warn"):
            monkeypatch.setattr(f"netdump.image.init.{module}.{function}", lines.append, raising=False)
    return lines
