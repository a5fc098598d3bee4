"""Whoever dies in mid-transfer, one exact dump stands at the end, and little is sent again.

What was sent is counted on the wire, by the proxy between client and collector; what one undisturbed transfer needs is
what the collector has stored.
"""

from __future__ import annotations

import filecmp
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from netdump.testing.fault_proxy import FaultProxy, Faults
from tests.e2e.rig import COMMAND_TIMEOUT, Collector, netdump, start, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.e2e

RESENT_MAX = 16 << 20  # half of what is promised: the credit of 32 MiB of raw data, which halves on the wire
CUT_AT = 10 << 20  # bytes on the wire; the whole core is some 33 MB there
OVERHEAD = 1.02  # TLS records and the headline


class Route:
    """A host's way to its collector through a proxy."""

    def __init__(self, collector: Collector, plan: Sequence[Faults] = ()) -> None:
        host, _, port = collector.ingest.rpartition(":")
        self.collector = collector
        self.proxy = FaultProxy((host, int(port)), plan)
        self.bundle = collector.enroll("host", "crashy", f"127.0.0.1:{self.proxy.address[1]}")

    def send(self, core: Path) -> subprocess.Popen[str]:
        return start("send", core, "--config", self.bundle, stderr=subprocess.DEVNULL)

    def wait_for_bytes(self, count: int) -> None:
        """Return when the hosts have sent that many bytes, on however many connections."""
        wait_until(lambda: sum(passage.up for passage in self.proxy.passages) >= count, f"{count:,} bytes on the wire")

    def assert_exact(self, core: Path, tmp_path: Path, cuts: int) -> None:
        (dump,) = self.collector.dumps()
        assert dump["state"] == "complete"
        target = tmp_path / "fetched"
        netdump("fetch", dump["id"], "-o", target, "--root", self.collector.folder)
        assert filecmp.cmp(target, core, shallow=False)
        sent = sum(passage.up for passage in self.proxy.passages)
        resent = sent - dump["stored_bytes"] * OVERHEAD
        assert resent <= cuts * RESENT_MAX, f"{resent:,.0f} bytes sent again after {cuts} cuts"


@contextmanager
def route(collector: Collector, plan: Sequence[Faults] = ()) -> Iterator[Route]:
    made = Route(collector, plan)
    with made.proxy:
        yield made


def test_connection_reset(collector: Collector, whole_core: Path, tmp_path: Path) -> None:
    with route(collector, [Faults(cut_up=CUT_AT), Faults(cut_up=CUT_AT // 2), Faults(cut_down=400)]) as way:
        client = way.send(whole_core)
        assert client.wait(COMMAND_TIMEOUT) == 0
        assert len(way.proxy.passages) == 4
        way.assert_exact(whole_core, tmp_path, cuts=3)


def test_client_killed(collector: Collector, whole_core: Path, tmp_path: Path) -> None:
    with route(collector) as way:
        for count in (CUT_AT, 2 * CUT_AT):
            client = way.send(whole_core)
            way.wait_for_bytes(count)
            client.kill()
            client.wait(COMMAND_TIMEOUT)
        assert way.send(whole_core).wait(COMMAND_TIMEOUT) == 0
        way.assert_exact(whole_core, tmp_path, cuts=2)


def test_collector_killed(collector: Collector, whole_core: Path, tmp_path: Path) -> None:
    with route(collector) as way:
        client = way.send(whole_core)
        for count in (CUT_AT, 2 * CUT_AT):
            way.wait_for_bytes(count)
            collector.kill()
            collector.start()
        assert client.wait(COMMAND_TIMEOUT) == 0
        way.assert_exact(whole_core, tmp_path, cuts=2)


def test_sent_again_costs_nothing(collector: Collector, sample: Path) -> None:
    with route(collector) as way:
        assert way.send(sample).wait(COMMAND_TIMEOUT) == 0
        assert way.send(sample).wait(COMMAND_TIMEOUT) == 0
        assert way.proxy.passages[-1].up < 16384
    assert len(collector.dumps()) == 1
