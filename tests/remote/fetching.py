"""What tests of fetching share: a fetch in small, catalogs that misbehave, progress to look at."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from netdump.remote.fetch import Fetched, Transfer, fetch
from netdump.remote.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.index.reading import Catalog

QUICK = Patience(tries=4, first_s=0.001, longest_s=0.001)


class Counting:
    """Progress that can be looked at."""

    def __init__(self) -> None:
        self.total = self.done = self.present = 0
        self.stages: list[str] = []
        self._guard = threading.Lock()

    def begin(self, total: int, done: int, what: str = "fetching") -> None:
        self.total, self.done, self.present = total, done, done
        self.stages.append(what)

    def advance(self, count: int) -> None:
        with self._guard:
            self.done += count


class Flaky:
    """A catalog whose segments come as `read` says; the rest is that of another."""

    def __init__(self, catalog: Catalog, read: Callable[[Iterator[bytes], str, int], Iterator[bytes]]) -> None:
        self._catalog = catalog
        self._read = read
        self.read: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        self.read[name] += 1
        return self._read(self._catalog.read_segment(dump_id, name, offset), name, offset)


def get(catalog: Any, dump_id: str, target: Path, progress: Counting | None = None, **options: Any) -> Fetched:
    options = {"patience": QUICK, "transfer": Transfer.PLAIN, **options}
    return fetch(catalog, catalog.show(dump_id), target, progress or Counting(), **options)


def left(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent))
