"""kill -9 of a real collector at each named point of a delivery by a real client; then one that is not killed."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.store.store import Store
from netdump.testing.elf_writer import Core, Load, counter_pages
from tests.e2e.rig import Collector, start, wait_until

if TYPE_CHECKING:
    from tests.campaign.frame import Tally

PATIENCE_S = 600  # nothing takes this long, whatever else the machine does
PAGES = 5000  # two segments, for the credit is half used up after 16 MiB


class _Site:
    """A collector's folder with a host, made once and copied for each point."""

    def __init__(self) -> None:
        self._holder = tempfile.TemporaryDirectory(prefix="netdump-points-")
        self.place = Path(self._holder.name)
        self.core = self.place / "core"
        Core([Load(0x100000, 4096 * PAGES, {0: counter_pages(1, PAGES)})]).write(self.core)
        self.collector = Collector(self.place / "collector").start()
        self.bundle = self.collector.enroll("host", "web1", self.collector.ingest)
        self.collector.stop()


@cache
def _site(_process: int) -> _Site:
    """A process has its own: the ports belong to it."""
    return _Site()


@cache
def points() -> tuple[str, ...]:
    """The names of all points that a delivery passes."""
    site = _site(os.getpid())
    with tempfile.TemporaryDirectory(prefix="netdump-record-") as name:
        record = Path(name) / "points"
        _deliver(site, Path(name), f"record:{record}", killed=False)
        return tuple(sorted(record.read_text().split()))


def look(case: int, tally: Tally) -> None:
    """Kill at the point of this number."""
    look_at_point(points()[case], tally)


def look_at_point(point: str, tally: Tally) -> None:
    """Kill at one point. With `--more` that is done again for points of the run before."""
    with tempfile.TemporaryDirectory(prefix="netdump-point-") as name:
        try:
            _deliver(_site(os.getpid()), Path(name), point, killed=True)
        except Exception as error:
            raise AssertionError(f"{point}: {error}") from error
    count_once("named points", point, tally)


def count_once(what: str, point: str, tally: Tally) -> None:
    """Count a point, however often it is met."""
    tally.distinct(what, hashlib.sha256(point.encode()).digest())


def _deliver(site: _Site, place: Path, point: str, *, killed: bool) -> None:
    folder = place / "collector"
    shutil.copytree(site.collector.folder, folder)
    ports = ["--ingest", site.collector.ingest, "--api", site.collector.api]
    command = [sys.executable, "-m", "tests.crashes.failing_serve", point, "serve", str(folder), *ports]
    with (place / "serve.log").open("w") as log:
        failing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert failing.stdout is not None
        failing.stdout.readline()  # it listens, or was killed before
        with (place / "send.log").open("w") as log:
            client = start("send", site.core, "--config", site.bundle, stdout=log, stderr=log)
        if killed:
            assert failing.wait(PATIENCE_S) == -9, (place / "serve.log").read_text()
            _go_on(folder, ports, client, place)
        else:
            wait_until(lambda: failing.poll() is not None or _is_settled(folder), "vmcore", PATIENCE_S)
            assert failing.poll() is None, (place / "serve.log").read_text()
        assert client.wait(PATIENCE_S) == 0, (place / "send.log").read_text()
    finally:
        failing.kill()
        failing.wait()
        assert failing.stdout is not None
        failing.stdout.close()
    _check(folder, site.core)


def _go_on(folder: Path, ports: list[str], client: subprocess.Popen[str], place: Path) -> None:
    """A collector that is not killed."""
    with (place / "again.log").open("w") as log:
        collector = start("serve", folder, *ports, stdout=log, stderr=log)
    try:
        client.wait(PATIENCE_S)
        wait_until(lambda: _is_settled(folder), "vmcore")
    finally:
        collector.terminate()
        collector.wait(PATIENCE_S)


def _is_settled(folder: Path) -> bool:
    return any((folder / "dumps").glob("*/vmcore"))


def _check(folder: Path, core: Path) -> None:
    store = Store(folder / "dumps")
    (dump_id,) = store.ids()
    report = store.dump(dump_id).verify()
    assert report.ok, report
    assert report.complete
    assert filecmp.cmp(folder / "dumps" / dump_id / "vmcore", core, shallow=False)
    assert not list(folder.rglob("*.partial"))
