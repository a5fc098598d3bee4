"""The machine that is looked at: its files below one root, which in tests is a folder of fixtures.

Owns reading /proc, /sys and /etc, and the difference between what is not there and what may not be read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

FILE_BYTES_MAX = 1 << 20


class DeniedError(Exception):
    """A file that only root may read. path: which. Never leaves the checkup."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Machine:
    """root: where its files lie. release, architecture: as uname -r and -m say. is_root: what this process may do."""

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)
    architecture: str = field(default_factory=lambda: os.uname().machine)
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    def path(self, name: str) -> Path:
        """The path of a file, named without the leading slash."""
        return self.root / name

    def exists(self, name: str) -> bool:
        """Whether there is something of that name."""
        return os.path.lexists(self.root / name)

    def text(self, name: str) -> str | None:
        """The content of a file without blanks around it, None if there is no such file. Raises DeniedError."""
        try:
            with open(self.root / name, "rb") as file:
                return file.read(FILE_BYTES_MAX).decode(errors="replace").strip()
        except PermissionError:
            raise DeniedError(f"/{name}") from None
        except OSError:
            return None

    def number(self, name: str) -> int | None:
        """The whole number that a file holds, None if there is none. Raises DeniedError."""
        text = self.text(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def folder(self, name: str) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(self.root / name))
        except OSError:
            return []


def is_hidden(path: Path) -> bool:
    """Whether a file is there, or may be, but is not for this process to read."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)
