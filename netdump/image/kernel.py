"""The installed kernel that will capture: its files and its configuration.

Owns where distributions keep them. Reads only.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.errors import KernelMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING_CONFIG = "proc/config.gz"
_IMAGES = (
    "boot/vmlinuz-{}",
    "lib/modules/{}/vmlinuz",
    "usr/lib/modules/{}/vmlinuz",
    "boot/Image-{}",
    "boot/vmlinux-{}",
)
_CONFIGS = ("boot/config-{}", "lib/modules/{}/config", "usr/lib/modules/{}/config", "lib/modules/{}/build/.config")


@dataclass(frozen=True, slots=True)
class Kernel:
    """release: as uname -r says. root: where the system lies, `/` outside of tests. config: CONFIG_ names without that
    prefix, and values; empty when it is nowhere to be read.
    """

    release: str
    root: Path
    modules: Path
    config: Mapping[str, str]

    def image(self) -> Path:
        """The file to boot. Raises KernelMissingError."""
        for pattern in _IMAGES:
            path = self.root / pattern.format(self.release)
            if path.is_file():
                return path
        raise KernelMissingError(
            f"the kernel image of {self.release} is not in /boot or /lib/modules: install its package, or name another "
            "one with --kernel"
        )

    def enabled(self, option: str) -> bool:
        """Whether an option is built in or a module; True when the configuration is unknown."""
        return not self.config or self.config.get(option) in {"y", "m"}


def find_kernel(release: str | None = None, root: Path = Path("/"), running: str | None = None) -> Kernel:
    """Find an installed kernel. release: default the running one, which `running` names if it is not this machine's.

    Raises KernelMissingError.
    """
    running = running or os.uname().release
    release = release or running
    if "/" in release or release.startswith("."):
        raise KernelMissingError(f"{release!r} is not a kernel release as `uname -r` prints it")
    for folder in ("lib/modules", "usr/lib/modules"):
        modules = root / folder / release
        if modules.is_dir():
            return Kernel(release, root, modules, _config(release, root, is_running=release == running))
    known = sorted({path.name for path in (root / "lib/modules").glob("*") if path.is_dir()})
    remedy = f"name one with --kernel (installed: {', '.join(known)})" if known else "install the kernel's package"
    raise KernelMissingError(f"there are no modules of kernel {release}: {remedy}")


def _config(release: str, root: Path, *, is_running: bool) -> dict[str, str]:
    for pattern in _CONFIGS:
        try:
            return _parse((root / pattern.format(release)).read_text(errors="replace"))
        except OSError:
            continue
    if not is_running:
        return {}
    try:
        return _parse(gzip.decompress((root / RUNNING_CONFIG).read_bytes()).decode(errors="replace"))
    except (OSError, EOFError):
        return {}  # this kernel does not tell


def _parse(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name.removeprefix("CONFIG_"): value.strip('"') for name, _, value in pairs}
