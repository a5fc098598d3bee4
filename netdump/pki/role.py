"""What the holder of a certificate may do. By itself, because whoever reads a bundle needs it, and no certificates."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What the holder of a certificate may do (SECURITY.md)."""

    HOST = "host"
    ANALYST = "analyst"
    OPERATOR = "operator"
