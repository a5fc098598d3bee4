"""A delivery whose connections and clock are played: what each collector does at each attempt is a script."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import netdump.client.delivery
from netdump.client.address import Address
from netdump.client.config import Settings
from netdump.client.delivery import Delivery, Environment, Outcome, Timing
from netdump.client.progress import Console
from netdump.client.tally import Tally
from netdump.errors import UnreachableError
from netdump.wire import Hello, Receipt
from tests.client.pretend import PretendImage, content

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from netdump.client.ledger import Ledger
    from netdump.client.session import LastWord


A, B, C = Address("a", 1), Address("b", 2), Address("c", 3)
IMAGE = PretendImage(content(100))
DONE = Receipt(bytes(32), b"signed")


class Step(NamedTuple):
    """One played connection. result: the last word, or what is raised; in dial if dialled is False.

    advanced: it acknowledged something. seconds: how long it took. durable: how far the collector is then.
    resumes: the offset that RESUME names. queues: seconds for which chunks had to wait before that, shown every second.
    behind: it ended because of all that there is to catch up with. finished: all was sent.
    """

    result: LastWord | BaseException | None
    dialled: bool = True
    advanced: bool = False
    seconds: float = 0.0
    durable: int = 0
    resumes: int | None = None
    queues: int = 0
    behind: bool = False
    finished: bool = False


class Play:
    """Runs a delivery on scripts: what each collector does at each attempt; the last step repeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.tried: list[tuple[str, float]] = []
        self.hellos: list[Hello] = []
        self.blamed: list[bool] = []  # connections that got nothing done: whether for silence
        self.scripts: dict[Address, list[Step]] = {}
        self.read_end, self.write_end = os.pipe()
        monkeypatch.setattr(netdump.client.delivery, "Session", self._session)

    def _session(self, link: PlayedLink, ledger: Ledger, *_: Any, **options: Any) -> PlayedSession:
        if link.step.finished:
            ledger.finish(bytes(32))
        return PlayedSession(
            self, link.step, **{name: options[name] for name in ("open_stream", "on_queue", "on_turn")}
        )

    def dial(self, address: Address) -> Any:
        script = self.scripts[address]
        step = script.pop(0) if len(script) > 1 else script[0]
        self.tried.append((address.host, round(self.now - 1000, 2)))
        if not step.dialled:
            self.now += step.seconds
            assert isinstance(step.result, BaseException)
            raise step.result
        return PlayedLink(step, self.blamed)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds

    def run(self, deadline: float = 3600, patience: float = 3600, **scripts: list[Step]) -> Outcome:
        addresses = {"a": A, "b": B, "c": C}
        self.scripts = {addresses[name]: script for name, script in scripts.items()}
        delivery = Delivery(
            IMAGE,  # type: ignore[arg-type]
            list(self.scripts),
            Settings(),
            Timing(self.now + deadline, patience),
            Environment(self.dial, IMAGE.stream, lambda: self.now, self.sleep, lambda: 0.999999),
            console=Console(self.write_end, clock=lambda: self.now),
            tally=Tally(),
        )
        return delivery.run()

    @property
    def order(self) -> str:
        return "".join(name for name, _ in self.tried)

    @property
    def said(self) -> str:
        os.set_blocking(self.read_end, False)
        return os.read(self.read_end, 1 << 20).decode()


class PlayedLink:
    sent_bytes = 10

    def __init__(self, step: Step, blamed: list[bool]) -> None:
        self.step = step
        self._blamed = blamed

    def blame(self, *, silent: bool = False) -> None:
        self._blamed.append(silent)

    def close(self) -> None:
        pass


class PlayedSession:
    def __init__(
        self,
        play: Play,
        step: Step,
        open_stream: Callable[[int], object],
        on_queue: Callable[[], None],
        on_turn: Callable[[int], None],
    ) -> None:
        self._open_stream, self._on_queue, self._on_turn = open_stream, on_queue, on_turn
        self.resume = None
        if step.advanced or step.durable or step.resumes is not None:
            self.resume = SimpleNamespace(offset=step.durable)
        self.advanced = step.advanced
        self.behind = step.behind
        self.acked_offset = step.durable
        self._play, self._step = play, step

    def run(self, hello: Hello) -> LastWord | None:
        self._play.hellos.append(hello)
        self._play.now += self._step.seconds
        if self._step.queues:
            self._on_queue()
        for _ in range(self._step.queues):
            self._play.now += 1
            self._on_turn(self.acked_offset)
        if self._step.resumes is not None:
            self._open_stream(self._step.resumes)
            self._on_turn(self._step.resumes)
        if isinstance(self._step.result, BaseException):
            raise self._step.result
        return self._step.result


def away(seconds: float = 0.0) -> Step:
    return Step(UnreachableError("away"), dialled=False, seconds=seconds)
