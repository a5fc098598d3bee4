"""A delivery over real connections, which are cut, damaged and stalled everywhere."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netdump.client.address import Address
from netdump.client.config import Settings
from netdump.client.delivery import LOYALTY, Delivery, Environment, Outcome, Timing
from netdump.client.link import RECORDS_MAX, open_link
from netdump.client.progress import Console
from netdump.client.resolve import Resolver
from netdump.client.tally import Tally
from netdump.errors import RemoteProtocolError
from netdump.testing.fault_proxy import FaultProxy, Faults
from netdump.wire import Decline, DeclineCode, Defer, Error, ErrorCode, Receipt, chain_link, chain_start
from tests.client.collector import Manners
from tests.client.pretend import PAGE, PretendImage, content

if TYPE_CHECKING:
    import ssl

    from tests.client.conftest import StartCollector


class Real:
    """Runs deliveries over real connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.tally = Tally()
        self._context = context
        self._sink = os.open(os.devnull, os.O_WRONLY)

    def run(
        self,
        image: PretendImage,
        *addresses: Address,
        deadline: float = 30,
        records_max: int = RECORDS_MAX,
        **changes: Any,
    ) -> Outcome:
        settings = Settings(retry_min=0.05, retry_max=0.1)._replace(**changes)
        resolver = Resolver()

        def dial(address: Address) -> Any:
            return open_link(
                address,
                self._context,
                resolver,
                connect_timeout=settings.connect_timeout,
                dns_timeout=settings.dns_timeout,
            )

        environment = Environment(dial, image.stream, records_max=records_max)
        timing = Timing(time.monotonic() + deadline, deadline)
        return Delivery(
            image,  # type: ignore[arg-type]
            addresses,
            settings,
            timing,
            environment,
            console=Console(self._sink),
            tally=self.tally,
        ).run()


@pytest.fixture
def real(context: ssl.SSLContext) -> Real:
    return Real(context)


def target(address: Address) -> tuple[str, int]:
    return address.host, address.port


def length_of(start_collector: StartCollector, real: Real, image: PretendImage) -> tuple[int, int]:
    """How many bytes a delivery without faults takes in each direction."""
    with FaultProxy(target(start_collector().address)) as proxy:
        real.run(image, Address(*proxy.address))
    return proxy.passages[0].up, proxy.passages[0].down


@pytest.mark.filterwarnings("ignore:.*SSLSocket")  # CPython leaks one when a peer is gone before the handshake
@pytest.mark.parametrize("kind", ["cut_up", "cut_down", "close_up", "close_down", "flip_up", "flip_down"])
def test_cuts_at_many_positions(start_collector: StartCollector, real: Real, kind: str) -> None:
    """Wherever the connection dies, the dump arrives, exact, and the collector's core finds nothing to complain of."""
    image = PretendImage(content(60))
    up, down = length_of(start_collector, real, image)
    total = up if kind.endswith("up") else down
    for number in range(12):
        position = total * number // 12 + number
        collector = start_collector()
        faults = replace(Faults(), **{kind: position})  # type: ignore[arg-type]
        with FaultProxy(target(collector.address), [faults], seed=number) as proxy:
            outcome = real.run(image, Address(*proxy.address))
        assert outcome.root == collector.only().root
        assert bytes(collector.only().image) == image.data
        assert not collector.errors
        assert len(proxy.passages) <= 3


def test_a_link_that_is_cut_again_and_again_still_gets_there(start_collector: StartCollector, real: Real) -> None:
    image = PretendImage(os.urandom(4096 * 60))  # 240 KiB in 15 chunks, of which each connection carries 40,000 bytes
    collector = start_collector()
    with FaultProxy(target(collector.address), lambda _: Faults(cut_up=40_000, rate=400_000)) as proxy:
        real.run(image, Address(*proxy.address))
    assert bytes(collector.only().image) == image.data
    assert len(proxy.passages) > 5
    assert len(collector.hellos) <= len(proxy.passages)
    assert not collector.errors


def test_a_stalled_link_is_left(start_collector: StartCollector, real: Real) -> None:
    image = PretendImage(content(60))
    collector = start_collector([Manners(idle=600)])
    with FaultProxy(target(collector.address), [Faults(stall_down=1700)]) as proxy:
        real.run(image, Address(*proxy.address), stall_timeout=1)
    assert bytes(collector.only().image) == image.data


def test_slow_and_sliced(start_collector: StartCollector, real: Real) -> None:
    image = PretendImage(content(60))
    collector = start_collector()
    with FaultProxy(target(collector.address), [Faults(slice_max=700, rate=200_000)]) as proxy:
        real.run(image, Address(*proxy.address))
    assert bytes(collector.only().image) == image.data
    assert real.tally.connections == 1


def test_a_second_collector_takes_over(start_collector: StartCollector, real: Real) -> None:
    image = PretendImage(content(60))
    first, second = start_collector(), start_collector()
    up, _ = length_of(start_collector, real, image)
    plan = [Faults(cut_up=up // 2)]
    with FaultProxy(
        target(first.address), lambda number: plan[number] if number < len(plan) else Faults(refuse=True)
    ) as proxy:
        outcome = real.run(image, Address(*proxy.address), second.address)
    assert outcome.address == second.address
    assert bytes(second.only().image) == image.data
    assert len(proxy.passages) <= 1 + LOYALTY


def test_a_dump_moves_between_collectors_that_each_have_a_part(start_collector: StartCollector, real: Real) -> None:
    """Resumes at another offset elsewhere, and at the first again: each keeps its own chain."""
    image = PretendImage(content(200))
    defer = Manners(answer=Defer(3))  # a tenth of the time that is left, for which the first one is waited for
    first = start_collector([Manners(retort=(7, Error(ErrorCode.SHUTTING_DOWN))), defer])
    second = start_collector(
        [Manners(retort=(3, Error(ErrorCode.SHUTTING_DOWN))), Manners(answer=Decline(DeclineCode.QUOTA))]
    )
    outcome = real.run(image, first.address, second.address)
    assert outcome.address == first.address
    assert bytes(first.only().image) == image.data
    assert 0 < second.only().offset < image.size
    assert not first.errors
    assert not second.errors


def test_a_name_server_that_hangs_costs_its_timeout(
    start_collector: StartCollector, real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    numeric = socket.getaddrinfo

    def getaddrinfo(host: bytes, port: int, **options: Any) -> Any:
        if not options["flags"] & socket.AI_NUMERICHOST:
            gate.wait()
        return numeric(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    image = PretendImage(content(20))
    collector = start_collector()
    start = time.monotonic()
    outcome = real.run(image, Address("collector.example", 7461), collector.address, dns_timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 5
    assert outcome.address == collector.address
    gate.set()


def test_keys_are_renewed_by_connecting_again(start_collector: StartCollector, real: Real) -> None:
    """Without a wait, without a word of complaint, and without sending anything twice."""
    image = PretendImage(content(400))
    collector = start_collector()
    outcome = real.run(image, collector.address, records_max=30, retry_min=20, retry_max=20)
    assert outcome.address == collector.address
    assert bytes(collector.only().image) == image.data
    assert real.tally.connections > 2
    assert real.tally.resent_bytes == 0
    assert not collector.errors


def test_resent_bytes_are_counted(start_collector: StartCollector, real: Real) -> None:
    image = PretendImage(content(100))
    first = start_collector([Manners(retort=(10, Error(ErrorCode.STORAGE)), ack=False)])
    real.run(image, first.address)
    assert bytes(first.only().image) == image.data
    assert real.tally.raw_bytes == real.tally.resent_bytes + 80 * 4096
    assert real.tally.wire_bytes > 0


def test_another_sender_that_cuts_elsewhere_is_no_breach(start_collector: StartCollector, real: Real) -> None:
    """[W-36]: fenced by it, this one finds another chain value where it has been itself, behind as many chunks."""
    image = PretendImage(content(60))
    first = PretendImage(image.data, chunk_pages=2).stream(0).take()
    second = PretendImage(image.data, chunk_pages=6).stream(2 * PAGE).take()
    assert first is not None
    assert second is not None

    def serve(number: int) -> Manners:
        if number == 0:
            return Manners(ack=False, retort=(4, Error(ErrorCode.FENCED)))
        kept = collector.only()
        if number == 1:
            start = chain_start(image.dump_id, image.size)
            kept.chain = chain_link(chain_link(start, first.chunk.digest), second.chunk.digest)
            kept.offset, kept.chunks = 8 * PAGE, 2
        return Manners()

    collector = start_collector(serve)
    outcome = real.run(image, collector.address)
    assert outcome.root == collector.only().root
    assert bytes(collector.only().image) == image.data
    assert not collector.errors
    assert len(collector.hellos) == 2


def test_a_complete_dump_of_another_root_is_not_asked_for_again(start_collector: StartCollector, real: Real) -> None:
    """[W-68]: it does not change, and another collector may take the dump."""
    image = PretendImage(content(60))
    wrong = [Manners(hang="finish"), Manners(answer=Receipt(bytes(32), b"signed"))]
    collector = start_collector(wrong)
    with pytest.raises(RemoteProtocolError, match="of another root than that of what was sent") as caught:
        real.run(image, collector.address, progress_timeout=0.3)
    assert caught.value.reason == "bad-root"
    assert "Nothing is lost: the same command can be run again" in str(caught.value)
    assert collector._count == 2
    second = start_collector()
    assert real.run(image, start_collector(wrong).address, second.address, progress_timeout=0.3).root
    assert bytes(second.only().image) == image.data
