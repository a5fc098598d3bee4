"""The far end of netdump: a real collector, with a host and an analyst enrolled by token as a user would."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.process import PYTHON, BenchError, Place, netdump, service
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query, every

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.index.record import DumpRecord

SETTLE_TIMEOUT: Final = 300


class Collector:
    """A running collector. host, analyst: their bundles. pid: of its process."""

    def __init__(self, folder: Path, ingest: str, host: Path, analyst: Path, pid: int) -> None:
        self.folder: Final = folder
        self.ingest: Final = ingest
        self.host: Final = host
        self.analyst: Final = analyst
        self.pid: Final = pid

    def ingest_address(self) -> tuple[str, int]:
        """Where hosts connect to."""
        host, _, port = self.ingest.rpartition(":")
        return host, int(port)

    def dumps(self) -> list[DumpRecord]:
        """What is stored, all of it, newest first."""
        with LocalCatalog(self.folder) as catalog:
            return [*every(catalog.list, Query())]

    def settle(self) -> list[DumpRecord]:
        """Wait until every dump is complete and its vmcore restored: nothing goes on in the background any more."""
        limit = time.monotonic() + SETTLE_TIMEOUT
        while True:
            dumps = self.dumps()
            if all(dump.vmcore for dump in dumps):
                return dumps
            if time.monotonic() > limit:
                raise BenchError(f"the collector has not settled within {SETTLE_TIMEOUT} s: {dumps}")
            time.sleep(0.05)

    def clear(self) -> None:
        """Delete all dumps, once nothing goes on with them."""
        dumps = self.settle()
        with LocalCatalog(self.folder) as catalog:
            for dump in dumps:
                catalog.delete(dump.id)


@contextmanager
def collector(folder: Path, bundles: Path, address: str, place: Place, *settings: str) -> Iterator[Collector]:
    """Run a collector at an address for as long as the block runs.

    folder: its own, new. bundles: where those of a host and an analyst go. settings: lines of its config.toml.
    """
    netdump_init(folder, address)
    if settings:
        (folder / "config.toml").write_text("\n".join(settings) + "\n")
    argv = [PYTHON, "-m", "netdump", "serve", str(folder), "--ingest", f"{address}:0", "--api", f"{address}:0"]
    with (
        (bundles / "serve.log").open("w") as log,
        service(argv, place, log, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError(f"the collector did not start:\n{(bundles / 'serve.log').read_text()}")
        facts = json.loads((folder / "serve.json").read_text())
        client = Place(namespace=place.namespace)
        host, analyst = (_enroll(folder, bundles, facts["api"], role, client) for role in ("host", "analyst"))
        yield Collector(folder, facts["ingest"], host, analyst, facts["pid"])


def netdump_init(folder: Path, address: str) -> None:
    """Make the folder of a collector."""
    argv = [PYTHON, "-m", "netdump", "init", str(folder), "--name", f"localhost,{address}"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"netdump init failed:\n{done.stderr}")


def _enroll(folder: Path, bundles: Path, api: str, role: str, place: Place) -> Path:
    token = netdump("token", folder, f"--{role}", f"bench-{role}")["token"]
    out = bundles / f"{role}.toml"
    argv = [PYTHON, "-m", "netdump", "enroll", f"https://{api}", "--token", token, "--out", str(out)]
    done = subprocess.run(place.command(argv), check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"netdump enroll failed:\n{done.stderr}")
    return out
