from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import RemoteProtocolError
from netdump.testing.lossy import Faults, LossyPipe
from netdump.wire import Hello, Role, State
from tests.testing.transfer import Dump, Sender, Session

HELLO = Hello(bytes(16), 1000, 4096, 0)
DUMP_ID = bytes(range(16))


def make_image(random: Random) -> bytes:
    """Pages of zeros, new ones and repeated ones; the last may be cut."""
    kinds = [bytes(64), bytes(range(64)), bytes(range(64, 128))]
    count = random.randint(1, 120)
    pages = [random.choice(kinds) if random.random() < 0.5 else random.randbytes(64) for _ in range(count)]
    return b"".join(pages)[: random.randint(-63, 0) or None]


class Transfer:
    """One dump over as many connections as it takes; those that the client has left may go on at the collector."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.dumps: dict[bytes, Dump] = {}
        self.sender = Sender(make_image(self.random), DUMP_ID, self.random)
        self.sessions: list[Session] = []
        self.connections = 0

    def run(self, bad: int, steps: int = 400) -> None:
        """So many connections with faults at most, then up to five without.

        One would do, but for a HELLO of an older connection that arrives late and fences the newest.
        """
        while self.connections < bad and not self.sender.done:
            self.connect(self.faults, steps)
        for _ in range(5):
            if not self.sender.done and not self.sender.declined:
                self.connect(Faults(), 10_000)

    def connect(self, faults: Faults, steps: int) -> None:
        pipe = LossyPipe(self.random, faults)
        self.connections += 1
        self.sessions.append(Session(pipe, self.dumps, self.random))
        self.sender.start(pipe)
        for _ in range(steps):
            pipe.now += self.random.random()
            for session in self.random.sample(self.sessions, len(self.sessions)):
                self.let_receive(session)
            self.let_client(pipe)
            self.check()
            if pipe.ended(Role.CLIENT) or pipe.client.state is State.CLOSED:
                break
        else:
            pipe.hang_up(Role.CLIENT)
        # The client is gone, what it sent may still arrive; a session lives until its end hears of it.
        self.sessions = [one for one in self.sessions if one.pipe.collector.state is not State.CLOSED][-3:]

    def let_receive(self, session: Session) -> None:
        pipe = session.pipe
        try:
            for message in pipe.take(Role.COLLECTOR):
                session.handle(message, self.sessions)
            pipe.look(Role.COLLECTOR)
            if self.random.random() < 0.05 and session.dump and pipe.collector.state is State.STREAMING:
                session.publish()
        except RemoteProtocolError as error:
            pipe.fail(Role.COLLECTOR, error)
            session.pending.clear()

    def let_client(self, pipe: LossyPipe) -> None:
        try:
            for message in pipe.take(Role.CLIENT):
                self.sender.handle(message, pipe)
            if not pipe.ended(Role.CLIENT):
                self.sender.go_on(pipe)
                pipe.look(Role.CLIENT)
        except RemoteProtocolError as error:
            pipe.fail(Role.CLIENT, error)

    def check(self) -> None:
        """What is durable is a prefix of the image at any time."""
        dump = self.dumps.get(DUMP_ID)
        if dump and dump.hello.image_bytes == len(self.sender.image):
            assert self.sender.image.startswith(dump.image)
            assert not dump.root or self.sender.image == dump.image


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    slice_bytes=st.sampled_from([10, 100, 4096, 1 << 20]),
    cut=st.sampled_from([0.0, 0.01, 0.1]),
    half_open=st.sampled_from([0.0, 0.01, 0.05]),
    delay=st.sampled_from([0.0, 0.5]),
)
def test_every_dump_arrives_exactly(seed: int, slice_bytes: int, cut: float, half_open: float, delay: float) -> None:
    transfer = Transfer(seed, Faults(slice_bytes, delay, cut, half_open))
    transfer.run(bad=20)
    assert transfer.sender.done
    assert transfer.dumps[DUMP_ID].image == transfer.sender.image


@settings(derandomize=True, deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), flip=st.sampled_from([0.002, 0.02, 0.2]))
def test_flipped_bits_never_make_a_wrong_dump(seed: int, flip: float) -> None:
    transfer = Transfer(seed, Faults(200, cut=0.005, flip=flip))
    transfer.run(bad=30)
    dump = transfer.dumps.get(DUMP_ID)
    if transfer.sender.done:
        assert dump
        assert dump.root
        assert dump.image == transfer.sender.image
    else:
        assert transfer.sender.declined  # the first HELLO that arrived was another, which TLS would have stopped


def test_the_same_seed_is_the_same_run() -> None:
    runs = [Transfer(7, Faults(100, 0.2, 0.02, 0.02)) for _ in range(2)]
    for one in runs:
        one.run(bad=20)
    assert runs[0].connections == runs[1].connections > 1


def test_slices() -> None:
    pipe = LossyPipe(Random(1), Faults(slice_bytes=3))
    pipe.send(Role.CLIENT, HELLO)
    messages = [message for _ in range(200) for message in pipe.take(Role.COLLECTOR)]
    assert messages == [HELLO]


def test_delay() -> None:
    pipe = LossyPipe(Random(1), Faults(delay=1.0))
    pipe.send(Role.CLIENT, HELLO)
    assert pipe.take(Role.COLLECTOR) == []
    assert pipe.on_the_way(Role.COLLECTOR)


def test_cut_drops_what_is_on_the_way() -> None:
    pipe = LossyPipe(Random(1), Faults(cut=1.0))
    pipe.send(Role.CLIENT, HELLO)
    assert pipe.take(Role.COLLECTOR) == []
    assert pipe.on_the_way(Role.COLLECTOR) == b""
    assert pipe.collector.cut
    assert pipe.client.cut
    pipe.post(Role.CLIENT, b"more")
    assert pipe.on_the_way(Role.COLLECTOR) == b""


def test_half_open_leaves_the_other_end() -> None:
    pipe = LossyPipe(Random(1), Faults(half_open=1.0))
    pipe.send(Role.CLIENT, HELLO)
    assert pipe.take(Role.CLIENT) == []
    assert pipe.ended(Role.CLIENT)
    assert not pipe.ended(Role.COLLECTOR)
    assert pipe.on_the_way(Role.COLLECTOR)


def take_all(pipe: LossyPipe) -> None:
    while pipe.on_the_way(Role.COLLECTOR):
        pipe.take(Role.COLLECTOR)


def test_flip() -> None:
    pipe = LossyPipe(Random(1), Faults(flip=1.0))
    pipe.post(Role.CLIENT, bytes(1000))
    before = pipe.on_the_way(Role.COLLECTOR)
    assert before == bytes(1000)
    with pytest.raises(RemoteProtocolError):
        take_all(pipe)
