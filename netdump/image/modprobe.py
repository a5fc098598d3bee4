"""What modprobe gives to modules: the `options` lines of its configuration (modprobe.d(5)).

Owns where these files lie and which of them count. What the kernel command line says of modules is read where they are
loaded (netdump.image.init.words).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.errors import DriverError
from netdump.image.kmodules import canonical

if TYPE_CHECKING:
    from pathlib import Path

# A file hides those of its name in later folders.
FOLDERS = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")


def module_options(root: Path) -> dict[str, tuple[str, ...]]:
    """The options by module, NAME=VALUE in the order in which modprobe passes them on. root: where the system lies.

    A quoted value with blanks is as many words as the blanks make of it. Raises DriverError if a file cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in _files(root):
        try:
            text = path.read_text(errors="replace")
        except OSError as error:
            raise DriverError(f"{path}, which may hold options of drivers, cannot be read: {error.strerror}") from error
        for line in text.replace("\\\n", "").splitlines():
            words = line.split()
            if words[:1] == ["options"] and len(words) > 2:
                name = canonical(words[1])
                found[name] = (*found.get(name, ()), *words[2:])
    return found


def _files(root: Path) -> list[Path]:
    by_name: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in (root / folder).glob("[!.]*.conf"):  # one that begins with a dot is an editor's
            if path.exists() and not path.is_dir():  # modprobe passes over links that lead nowhere, too
                by_name.setdefault(path.name, path)
    return [by_name[name] for name in sorted(by_name)]
