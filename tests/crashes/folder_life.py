"""The collector's folder: `netdump init`, tokens, enrolment and revocation, over a shadow of its disk.

The commands run for real on a real folder; every system call that changes it is done once more on a disk in memory,
which knows what was synced. What a power cut may leave of that is written out and used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

from click.testing import CliRunner

from netdump.cli.cmd_init import command as init_command
from netdump.errors import NetdumpError, NotACollectorError, TokenError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query
from netdump.pki import Authority, Role
from netdump.pki.certificates import new_key
from netdump.pki.identity import fingerprint
from netdump.pki.request import make_request
from netdump.pki.token import parse_token
from netdump.server.config import load
from netdump.testing.memory_files import MemoryFiles
from tests.crashes.states import fingerprint as state_fingerprint
from tests.crashes.states import plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.testing.memory_files import MemoryFile
    from tests.campaign.frame import Tally

CALLS = ("open", "write", "fsync", "fdatasync", "close", "rename", "replace", "mkdir", "unlink", "rmdir")


class Shadow:
    """A disk in memory that does what the real one is told below root. on_change: called after each change."""

    def __init__(self, root: Path, on_change: Callable[[MemoryFiles], None]) -> None:
        self.disk = MemoryFiles()
        self._root = root
        self._on_change = on_change
        self._files: dict[int, MemoryFile] = {}
        self._folders: dict[int, str] = {}
        self._real = {name: getattr(os, name) for name in CALLS}

    @contextmanager
    def watching(self) -> Iterator[None]:
        with mock.patch.multiple(os, **{name: getattr(self, name) for name in CALLS}):
            yield

    def _name(self, path: Any) -> str | None:
        """The name below root; None: elsewhere."""
        with suppress(TypeError, ValueError):
            return str(Path(path).relative_to(self._root)).removeprefix(".")
        return None

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        number: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        name = self._name(path)
        if name is not None and dir_fd is None:
            if Path(path).is_dir():
                self._folders[number] = name
            elif flags & os.O_CREAT and self.disk.status(name) is None:
                self._files[number] = self.disk.create(name)
                self._on_change(self.disk)
        return number

    def write(self, number: int, data: Any) -> int:
        done: int = self._real["write"](number, data)
        if number in self._files:
            self._files[number].write(bytes(data[:done]))
            self._on_change(self.disk)
        return done

    def fsync(self, number: int) -> None:
        self._real["fsync"](number)
        if number in self._files:
            self._files[number].sync()
        elif number in self._folders:
            self.disk.sync_folder(self._folders[number])
        self._on_change(self.disk)

    fdatasync = fsync

    def close(self, number: int) -> None:
        self._files.pop(number, None)
        self._folders.pop(number, None)
        self._real["close"](number)

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        self._real["rename"](source, target, **options)
        old, new = self._name(source), self._name(target)
        if old is not None and new is not None and self.disk.status(old) is not None:
            self.disk.rename(old, new)
            self._on_change(self.disk)

    replace = rename

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        if (name := self._name(path)) is not None:
            self.disk.make_folder(name)
            self._on_change(self.disk)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._real["unlink"](path, dir_fd=dir_fd)
        if dir_fd is None and (name := self._name(path)) is not None and self.disk.status(name) is not None:
            self.disk.unlink(name)
            self._on_change(self.disk)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._real["rmdir"](path, dir_fd=dir_fd)
        if dir_fd is None and (name := self._name(path)) is not None and self.disk.status(name) is not None:
            self.disk.remove_folder(name)
            self._on_change(self.disk)


class Life:
    """What is done. moments: after each change the states that a power cut may leave, and what was promised by then."""

    def __init__(self) -> None:
        self.moments: list[tuple[list[MemoryFiles], dict[str, Any]]] = []
        self._promised: dict[str, Any] = {}

    def live(self) -> None:
        base = Path(tempfile.mkdtemp(prefix="netdump-life-"))
        shadow = Shadow(base, lambda disk: self.moments.append((_states(disk, len(self.moments)), self._promised)))
        folder = base / "collector"
        try:
            with shadow.watching():
                self._act(folder)
        finally:
            shutil.rmtree(base)

    def _act(self, folder: Path) -> None:
        done = CliRunner().invoke(init_command, [str(folder), "--name", "localhost"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        self._promise("initialised", True)
        authority = Authority.load(folder)
        token = authority.make_token("web1", Role.HOST)
        self._promise("token", token)
        key = new_key()
        self._promise("redeeming", True)
        authority.redeem(parse_token(token).secret_text(), make_request(key))
        self._promise("redeemed", fingerprint(key.public_key()))
        self._promise("revoking", True)
        authority.revoke(fingerprint(key.public_key()))
        self._promise("revoked", True)

    def _promise(self, what: str, value: Any) -> None:
        self._promised = {**self._promised, what: value}
        if self.moments:
            self.moments.append((self.moments[-1][0], self._promised))


def _states(disk: MemoryFiles, seed: int) -> list[MemoryFiles]:
    found = {}
    for luck in plans(disk.unsynced(), Random(seed), by_chance=6):
        state = disk.after_power_cut(luck)
        found[state_fingerprint(state) + repr(_folders(state)).encode()] = state
    return list(found.values())


@cache
def life() -> Life:
    lived = Life()
    lived.live()
    return lived


def look(case: int, tally: Tally) -> None:
    moments = life().moments
    if case >= len(moments):
        return
    states, promised = moments[case]
    tally.count("moments of a power cut")
    for state in states:
        recover(state, promised)
        tally.count("states")


def recover(state: MemoryFiles, promised: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="netdump-state-") as place:
        _write_out(state, Path(place))
        _check(Path(place) / "collector", promised)


def _check(folder: Path, promised: dict[str, Any]) -> None:
    try:
        authority = Authority.load(folder)
        authority.issued()
    except NotACollectorError:
        assert "initialised" not in promised, "the authority is gone"
        return
    if "initialised" not in promised:
        return
    load(folder / "config.toml")
    with LocalCatalog(folder) as catalog:
        assert catalog.list(Query()) == []
    if "revoked" in promised:
        assert authority.is_revoked(promised["redeemed"]), "a revoked key is welcome again"
    if "redeemed" in promised:
        assert [each.fingerprint for each in authority.issued().certificates] == [promised["redeemed"]]
    if "token" in promised:
        _check_token(authority, promised)


def _check_token(authority: Authority, promised: dict[str, Any]) -> None:
    try:
        authority.redeem(parse_token(promised["token"]).secret_text(), make_request(new_key()))
    except TokenError:
        assert "redeeming" in promised, "a token that was handed out is not good"
    except NetdumpError as error:
        raise AssertionError(f"the token cannot be tried: {error}") from error
    else:
        assert "redeemed" not in promised, "a token is good twice"


def _folders(state: MemoryFiles) -> list[str]:
    found, todo = [], [""]
    while todo:
        folder = todo.pop()
        for name in state.names(folder):
            inner = f"{folder}/{name}" if folder else name
            status = state.status(inner)
            if status is not None and status.is_folder:
                found.append(inner)
                todo.append(inner)
    return sorted(found)


def _write_out(state: MemoryFiles, place: Path) -> None:
    for folder in _folders(state):
        (place / folder).mkdir(mode=0o700)
    for name in state.all_names():
        (place / name).write_bytes(state.content(name))
