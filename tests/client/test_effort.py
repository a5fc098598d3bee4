"""The level that brings the image across soonest, on links and CPUs that are played."""

from __future__ import annotations

import os

import pytest

from netdump.client.effort import BLIND_LEVEL, FIRST_LEVEL, STEPS, STORED, AdaptiveCompressor, Effort, Step
from netdump.codec import decompress

CHUNK = 1 << 20
BASE = 1.2e-9  # CPU seconds for a byte of data, then for a byte on the wire, then at level 1
WIRE = 0.6e-9
LEVEL_1 = 2.1e-9


class Play:
    """A sender with one CPU and a link. Time passes as both take it, whichever is slower."""

    def __init__(
        self, rate: float, saving: float = 0.6, far: float = 0.0, cpu: float = 1.0, digests: float = 0.0
    ) -> None:
        """rate, far: bytes a second that link and far end take. digests: bytes of data that the far end does."""
        self.rate, self.saving, self.far, self.cpu, self.digests = rate, saving, far, cpu, digests
        self.now = self.worked = 0.0
        self.used: list[int] = []
        self.effort = Effort(1, clock=lambda: self.now, cpu_clock=lambda: self.worked)

    def send(self, chunks: int) -> None:
        for _ in range(chunks):
            step = self.effort.step
            self.used.append(step.level)
            seconds, wire = self.costs(step)
            if step.level != STORED:
                self.effort.packed(step, CHUNK, wire, LEVEL_1 * self.cpu * step.cost * CHUNK)
            self.worked += seconds
            far = CHUNK / self.digests if self.digests else 0.0
            waited = max(0.0, wire / min(self.rate, self.far or self.rate) - seconds, far - seconds)
            self.effort.waited(waited)
            self.now += seconds + waited
            self.effort.sent(CHUNK, wire, self.rate)

    @classmethod
    def undisturbed(cls, chunks: int, far: float) -> float:
        """Seconds, on one connection."""
        play = cls(1e10, far=far)
        play.send(chunks)
        return play.now

    def costs(self, step: Step) -> tuple[float, int]:
        wire = int(CHUNK * (1 - self.saving * step.saving))
        return self.cpu * (BASE * CHUNK + WIRE * wire + LEVEL_1 * step.cost * CHUNK), wire

    def fixed(self, step: Step, chunks: int) -> float:
        """Seconds with one level from the first chunk to the last."""
        seconds, wire = self.costs(step)
        return chunks * max(seconds, wire / min(self.rate, self.far or self.rate))


@pytest.mark.parametrize("cpu", [1.0, 5.0], ids=["fast CPU", "slow CPU"])
@pytest.mark.parametrize("saving", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("rate", [1.2e7, 1.2e8, 3e8, 1.2e9, 1e10])
def test_never_much_slower_than_the_best_fixed_level(rate: float, saving: float, cpu: float) -> None:
    play = Play(rate, saving, cpu=cpu)
    play.send(200)
    assert play.now <= 1.1 * min(play.fixed(step, 200) for step in STEPS)


def test_a_fast_link_gets_the_data_as_it_is_and_a_slow_one_what_is_smallest() -> None:
    fast, slow = Play(1e10), Play(1.2e7)
    fast.send(20)
    slow.send(20)
    assert fast.used[-1] == STORED
    assert slow.used[-1] == 3


def test_a_link_that_changes_is_followed() -> None:
    play = Play(1e10)
    play.send(20)
    play.rate = 1.2e7
    play.send(30)
    assert play.used[-1] == 3
    play.rate = 1e10
    play.send(30)
    assert play.used[-1] == STORED


def test_single_readings_that_are_off_change_nothing() -> None:
    play = Play(1e10)
    play.send(20)
    play.effort.sent(CHUNK, CHUNK, 1e6)
    assert play.effort.level == STORED


def test_a_far_end_that_makes_us_wait_is_taken_for_a_slow_link_and_tried_again_less_and_less_often() -> None:
    play = Play(1e10, far=1e8)
    play.send(400)
    stored = [number for number, level in enumerate(play.used) if level == STORED]
    assert play.used[-1] != STORED
    assert len(stored) < 100
    assert stored[-1] > 100
    assert play.now <= 1.3 * min(play.fixed(step, 400) for step in STEPS)


@pytest.mark.parametrize("chunks", [10, 40, 70, 200])
def test_a_new_connection_is_not_taken_for_a_far_end_that_has_become_slower(chunks: int) -> None:
    play = Play(1e10, far=1e8)
    play.send(chunks)
    play.now += 60  # cut, tried again, and other dumps came first
    play.effort.begin()
    play.send(600 - chunks)
    assert play.now - 60 <= 1.15 * Play.undisturbed(600, far=1e8)


@pytest.mark.parametrize("digests", [1e8, 2e8, 3.5e8])
def test_a_far_end_that_takes_no_more_when_less_is_sent_gets_the_data_as_it_is(digests: float) -> None:
    play = Play(1e10, digests=digests)
    play.send(3000)
    assert sum(level != STORED for level in play.used) < 300
    assert play.used[-1] == STORED


def test_where_nothing_comes_to_be_known_of_the_link_it_is_level_1() -> None:
    effort = Effort(1)
    used = []
    for _ in range(50):
        used.append(effort.level)
        effort.sent(CHUNK, CHUNK // 2, 0.0)
    assert used == [FIRST_LEVEL] * 3 + [BLIND_LEVEL] * 47


@pytest.mark.parametrize("level", [step.level for step in STEPS if step.level])
def test_what_is_compressed_can_be_read(level: int) -> None:
    (step,) = (step for step in STEPS if step.level == level)
    data = b"netdump " * 20_000
    assert decompress(AdaptiveCompressor(Effort(1, [step])).compress(data), len(data)) == data


def test_nothing_is_compressed_at_stored() -> None:
    data = bytes(CHUNK)
    assert AdaptiveCompressor(Effort(1, STEPS[:1])).compress(data) is data


def test_noise_is_stored_and_what_follows_it_is_only_tried_in_places() -> None:
    effort = Effort(1, STEPS[2:3])
    compressor = AdaptiveCompressor(effort)
    noise = os.urandom(CHUNK)
    assert compressor.compress(noise) is noise
    assert compressor.compress(noise) is noise
    text = b"netdump " * (CHUNK // 8)
    assert len(compressor.compress(text)) < CHUNK // 100
    assert len(compressor.compress(text)) < CHUNK // 100


def test_a_chunk_too_small_to_try_in_places_is_tried_whole() -> None:
    compressor = AdaptiveCompressor(Effort(1, STEPS[2:3]))
    noise, text = os.urandom(8192), b"netdump " * 1024
    assert compressor.compress(noise) is noise
    assert len(compressor.compress(text)) < 200
