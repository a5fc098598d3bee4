"""Kernel modules: which files a driver needs, in the order in which they must be loaded.

Owns the reading of modules.dep, modules.softdep, modules.alias and modules.builtin (depmod's text files, see
modules.dep(5)), decompression, and the firmware that drivers name. Names are compared with `-` and `_` alike.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from netdump.codec import expand
from netdump.errors import CodecError, DriverError
from netdump.image.elfobject import is_elf, read_modinfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from netdump.image.kernel import Kernel

WINDOW_MAX = 1 << 27  # of a module that was packed by zstd --ultra
DEPENDENCIES = "modules.dep"
BUILTIN_INFO = "modules.builtin.modinfo"  # since Linux 5.2: MODULE.KEY=VALUE, each with a zero behind it
SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")


@dataclass(frozen=True, slots=True)
class Module:
    """One module. name: with underscores. content: as the kernel loads it. firmware: names below /lib/firmware."""

    name: str
    content: bytes
    firmware: tuple[str, ...]

    @property
    def target(self) -> str:
        """Its path in the image."""
        return f"lib/modules/{self.name}.ko"


class ModuleTree:
    """The modules of one installed kernel."""

    def __init__(self, kernel: Kernel) -> None:
        """Read depmod's files. Raises DriverError."""
        self._kernel = kernel
        dependencies = self._lines(DEPENDENCIES, required=True)
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}
        for line in dependencies:
            path, _, needs = line.partition(":")
            name = module_name(path)
            self._paths[name] = path
            self._needs[name] = [module_name(each) for each in needs.split()]
        self._builtin = {module_name(line) for line in self._lines("modules.builtin")}
        self._before: dict[str, list[str]] = {}
        self._after: dict[str, list[str]] = {}
        for line in self._lines("modules.softdep"):  # a module may have several
            self._read_softdep(line)

    def __contains__(self, name: str) -> bool:
        return canonical(name) in self._paths or canonical(name) in self._builtin

    def is_builtin(self, name: str) -> bool:
        """Whether the kernel holds it itself."""
        return canonical(name) in self._builtin

    def builtin_firmware(self, name: str) -> tuple[str, ...]:
        """The firmware that a driver names which the kernel holds itself; empty where the kernel does not tell."""
        prefix = f"{canonical(name)}.firmware="
        lines = (line for text in self._lines(BUILTIN_INFO) for line in text.split("\0"))
        return tuple(line.removeprefix(prefix) for line in lines if line.startswith(prefix))

    def load_order(self, names: Iterable[str]) -> list[str]:
        """The modules that names need, dependencies first, each once. Raises DriverError for one that is not there."""
        order: list[str] = []
        for name in names:
            self._visit(canonical(name), order, set())
        return order

    def read(self, name: str) -> Module:
        """Read and decompress a module. Raises DriverError."""
        path = self._kernel.modules / self._paths[name]
        try:
            content = _decompress(path)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, CodecError) as error:
            why = getattr(error, "strerror", None) or error
            raise DriverError(f"{path} cannot be read ({why}): install kernel {self._kernel.release} again") from error
        if not is_elf(content):
            raise DriverError(f"{path} is not a kernel module: install kernel {self._kernel.release} again")
        firmware = read_modinfo(content, str(path)).get("firmware", [])
        return Module(name, content, tuple(dict.fromkeys(firmware)))

    def _visit(self, name: str, order: list[str], above: set[str]) -> None:
        if name in order or name in above or (name in self._builtin and name not in self._paths):
            return
        if name not in self._paths:
            raise DriverError(
                f"kernel {self._kernel.release} has no module {name}: run `depmod {self._kernel.release}` if it is "
                "installed, else install it, or build for another kernel with --kernel"
            )
        inner = above | {name}
        for need in self._wanted(self._before, name) + self._needs[name]:
            self._visit(need, order, inner)
        order.append(name)
        for need in self._wanted(self._after, name):
            self._visit(need, order, inner)

    def _wanted(self, table: dict[str, list[str]], name: str) -> list[str]:
        """The modules there are that a module should have. What it names may be what others call themselves too.

        As ext4 does with crypto-crc32c: without any it mounts nothing, and here is no modprobe to be asked then.
        """
        return [found for each in table.get(name, ()) for found in ([each] if each in self else self._called(each))]

    def _called(self, alias: str) -> list[str]:
        return [module for module in self._aliases.get(alias, ()) if module in self]

    @cached_property
    def _aliases(self) -> dict[str, list[str]]:
        """The modules by what they call themselves. Patterns, which are for devices, stand for themselves here."""
        found: dict[str, list[str]] = {}
        for line in self._lines("modules.alias"):
            words = line.split()
            if words[:1] == ["alias"] and len(words) == 3:
                found.setdefault(canonical(words[1]), []).append(canonical(words[2]))
        return found

    def _read_softdep(self, line: str) -> None:
        keyword, _, rest = line.partition(" ")
        if keyword != "softdep":
            return
        name, *words = rest.split()
        table = self._before
        for word in words:
            if word in {"pre:", "post:"}:
                table = self._before if word == "pre:" else self._after
            else:
                table.setdefault(canonical(name), []).append(canonical(word))

    def _lines(self, file: str, *, required: bool = False) -> list[str]:
        path = self._kernel.modules / file
        try:
            return path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            if required:
                raise DriverError(f"{path} is missing: run `depmod {self._kernel.release}`") from None
            return []
        except OSError as error:
            raise DriverError(f"{path} cannot be read: {error.strerror}") from error


def canonical(name: str) -> str:
    """The form in which names are compared."""
    return name.replace("-", "_")


def module_name(path: str) -> str:
    """The name of the module in a file."""
    name = path.rpartition("/")[2]
    for suffix in reversed(SUFFIXES):
        name = name.removesuffix(suffix)
    return canonical(name)


def _decompress(path: Path) -> bytes:
    raw = path.read_bytes()
    match path.suffix:
        case ".gz":
            return gzip.decompress(raw)
        case ".xz":
            return lzma.decompress(raw)
        case ".zst":
            target = io.BytesIO()
            expand(io.BytesIO(raw), target, WINDOW_MAX)
            return target.getvalue()
    return raw
