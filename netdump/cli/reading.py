"""Where reading commands read: a collector's folder (--root) or, through a bundle, a collector's API.

Owns the options that all of them share, and the choice. The collector's libraries are loaded only for --root.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from netdump.client.config import DEFAULT_CONFIG
from netdump.errors import (
    AmbiguousIdError,
    ConfigMissingError,
    DumpNotFoundError,
    ForbiddenError,
    ImpostorError,
    IndexFaultError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netdump.errors import NetdumpError
    from netdump.index.reading import Catalog

CONFIG_VARIABLE: Final = "NETDUMP_CONFIG"
CONFIG_NAME: Final = Path("netdump") / "client.toml"
HOST_BUNDLE: Final = Path(DEFAULT_CONFIG)

COMMON_ERRORS: Final = (
    ConfigMissingError,
    UnreachableError,
    ImpostorError,
    DumpNotFoundError,
    AmbiguousIdError,
    IndexFaultError,
    ForbiddenError,
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read. root: a collector's folder; config: a bundle; neither: the bundle of this user."""

    root: Path | None = None
    config: Path | None = None

    @contextmanager
    def open(self, connections: int = 1) -> Iterator[Catalog]:
        """The catalog to read, for the time of the block. connections: how many threads will ask at once.

        Raises ConfigMissingError, ConfigError, BundleError; NotACollectorError, IndexFaultError, BusyError with --root.
        """
        if self.root is not None:
            from netdump.index.catalog import LocalCatalog  # noqa: PLC0415

            with LocalCatalog(self.root) as local:
                yield local
            return
        from netdump.pki.bundle import Bundle  # noqa: PLC0415
        from netdump.remote.api import ApiClient  # noqa: PLC0415

        with ApiClient.of_bundle(Bundle.load(self.bundle_path()), connections) as remote:
            yield remote

    def authority(self) -> str:
        """PEM of the authority that signs the collector's receipts. Raises what `open` does, and PkiError."""
        if self.root is not None:
            from netdump.pki.certificates import certificate_pem  # noqa: PLC0415
            from netdump.pki.folder import Folder  # noqa: PLC0415

            return certificate_pem(Folder(self.root).read_authority())
        from netdump.pki.bundle import Bundle  # noqa: PLC0415

        return Bundle.load(self.bundle_path()).ca

    def bundle_path(self) -> Path:
        """The bundle: as told, from the environment, or at its usual place. Raises ConfigMissingError."""
        if self.config is not None:
            return self.config
        if told := os.environ.get(CONFIG_VARIABLE):
            return Path(told)
        usual = own_bundle()
        if is_missing(usual):
            raise ConfigMissingError(
                f"there is no bundle {usual}: make one with `netdump enroll URL --token T`, name another "
                f"with --config or {CONFIG_VARIABLE}, or read a collector's folder with --root DIR"
            )
        return usual


def own_bundle() -> Path:
    """Where the bundle of the user who runs this is looked for, and written by default. Raises ConfigMissingError."""
    if told := os.environ.get("XDG_CONFIG_HOME"):
        return Path(told) / CONFIG_NAME
    try:
        return Path.home() / ".config" / CONFIG_NAME
    except RuntimeError:
        raise ConfigMissingError(
            f"this user (id {os.getuid()}) has no home folder, where a bundle would be: set HOME, or name the bundle"
        ) from None


def is_missing(path: Path) -> bool:
    """Whether there is no such file. If that cannot be found out, who opens it will say why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --root, --config and --json; it gets them as `source` and `as_json`."""

    @click.option(
        "--root",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Read the folder of a collector on this machine, whether it runs or not.",
    )
    @click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help=f"The bundle from `netdump enroll`.  [default: ${CONFIG_VARIABLE}, then ~/.config/{CONFIG_NAME}]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print an object instead of text.")
    @wraps(function)
    def with_source(root: Path | None, config: Path | None, **options: Any) -> Any:
        if root is not None and config is not None:
            raise click.UsageError("--root and --config exclude each other")
        return function(source=Source(root, config), **options)

    return with_source


def exit_statuses(*kinds: type[NetdumpError], common: Sequence[type[NetdumpError]] = COMMON_ERRORS) -> str:
    """The part of a help text that lists exit statuses: 0, those of kinds, and what all reading commands may meet.

    common: what stands in for the latter.
    """
    lines = ["   0  Done."]
    every: set[type[NetdumpError]] = {*kinds, *common}
    for kind in sorted(every, key=lambda kind: kind.exit_status):
        assert kind.__doc__ is not None
        lines.append(f"  {kind.exit_status:>2}  {kind.__doc__.splitlines()[0]}")
    return "\b\nExit statuses (all of them: docs/errors.md):\n" + "\n".join(lines)
