"""The contract can be broken: stores with one defect each do not pass it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import BusyError, OwnerError, RemoteProtocolError, StoreError
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.store_contract import CLOCK, StoreContract
from netdump.wire import root_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.manifest import Manifest
    from netdump.store.origin import Origin
    from netdump.store.recovery import Durable
    from netdump.store.writer import DumpWriter


class Defective(StoreContract):
    """The contract against a store whose class is given."""

    def __init__(self, store: type[Store]) -> None:
        self.store = store
        self.files = MemoryFiles()

    def open_store(self, place: Path) -> Store:
        return self.store(place / "dumps", self.files, clock=lambda: CLOCK)


def broken_by(store: type[Store], tmp_path: Path) -> set[str]:
    """The tests of the contract that the store fails."""
    failed = set()
    for name in dir(StoreContract):
        if name.startswith("test_"):
            place = tmp_path / name
            place.mkdir()
            test: Callable[[Path], None] = getattr(Defective(store), name)
            try:
                test(place)
            except (AssertionError, StoreError, RemoteProtocolError, pytest.fail.Exception):
                failed.add(name)
    return failed


class Forgetful(Store):
    """Says that appended chunks are durable, and keeps nothing."""

    def open_writer(self, origin: Origin, **options: Any) -> DumpWriter:
        writer = super().open_writer(origin, **options)
        writer.publish = lambda: writer.durable  # type: ignore[method-assign]
        return writer


class Trusting(Store):
    """Takes every root for the right one."""

    def open_writer(self, origin: Origin, **options: Any) -> DumpWriter:
        writer = super().open_writer(origin, **options)
        finish = writer.finish

        def trusting(root: bytes, remark: str = "", *, on_read: Callable[[], None] = lambda: None) -> Manifest:
            durable: Durable = writer.publish()
            if writer.manifest is None:
                root = root_digest(durable.chain, durable.offset, durable.chunks)
            return finish(root, remark, on_read=on_read)

        writer.finish = trusting  # type: ignore[method-assign]
        return writer


class Talkative(Store):
    """Looks at the lock before the owner."""

    def open_writer(self, origin: Origin, **options: Any) -> DumpWriter:
        try:
            return super().open_writer(origin, **options)
        except OwnerError:
            raise BusyError("busy, whoever you are") from None


class Careless(Store):
    """Deletes nothing."""

    def delete(self, dump_id: str) -> None:
        self.dump(dump_id)


def test_a_sound_store_passes(tmp_path: Path) -> None:
    assert broken_by(Store, tmp_path) == set()


@pytest.mark.parametrize(
    ("store", "test"),
    [
        (Forgetful, "test_what_is_published_is_durable_and_nothing_else"),
        (Trusting, "test_complete_means_tiled_with_that_root"),
        (Talkative, "test_a_dump_belongs_to_its_host"),
        (Careless, "test_a_deleted_dump_is_gone"),
    ],
)
def test_a_defect_is_found(store: type[Store], test: str, tmp_path: Path) -> None:
    assert test in broken_by(store, tmp_path)
