"""How hard to compress: whatever brings the image across soonest, on this CPU, over this link, of this data.

Owns the choice of a zstd level for the next chunk. Sending a byte of data takes CPU time (to read, hash, compress,
encrypt) and link time (what is left of it after compression); the two overlap, so the slower one counts. A fast link
makes compression a waste of the only CPU; on a slow one every byte saved is time saved. Both sides are measured while
data is sent: CPU times by the thread's own clock, the link's rate by the kernel's estimate of what TCP delivers, and
the far end's, where that is the slower one, by how long it keeps us waiting for credit.

Costs and savings of levels relate to those of level 1 much the same whatever the memory holds, so measuring one tells
about the others. Measured on a real core (docs/performance.md): level -7 takes 0.58 of the time of level 1 and saves
0.75 of what it saves, level 3 takes 1.62 and saves 1.04; above it time doubles for less than one percent.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from netdump.codec import Compressor, is_worth_it, seems_compressible
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netdump.codec import Buffer

STORED: Final = 0
"""The level that stands for no compression."""


class Step(NamedTuple):
    """A level worth choosing. cost: CPU time, saving: of bytes, both as shares of what level 1 takes and saves."""

    level: int
    cost: float
    saving: float


STEPS: Final = (Step(STORED, 0.0, 0.0), Step(-7, 0.58, 0.75), Step(1, 1.0, 1.0), Step(3, 1.62, 1.04))

FIRST_LEVEL: Final = -7  # until something is known of the link: little CPU time lost on a fast one, few bytes on a slow
BLIND_LEVEL: Final = 1  # where the kernel does not tell

HASH_COST: Final = 0.3  # of the digest, as a share of what level 1 takes
WIRE_COST: Final = 0.5  # of encrypting and sending a byte, as a share of reading and hashing it
INERTIA: Final = 0.96  # another level must promise this share of the time before it is taken

BASE_SECONDS: Final = 1.7e-9  # for a byte of data, without compression; until it is measured
LEVEL_1_SECONDS: Final = 2.1e-9
LEVEL_1_SAVING: Final = 0.55

_WEIGHT: Final = 1 / 8  # of the newest sample
_SAMPLE_BYTES: Final = 1 << 16  # of data; what takes or brings less says little
_PERIOD_BYTES: Final = 1 << 25  # of data, between two looks at how long we waited: some acknowledgements
_WAITED_SHARE: Final = 0.3  # of a period: then the link or the far end is what counts
_LINK_SHARE: Final = 0.7  # of what the link takes: with less than that on the wire it is the far end
_HOLD_PERIODS: Final = 4  # that what the far end takes is believed, or not; doubles each time it is found again
_GAIN: Final = 1.1  # data must come across as much faster with fewer bytes on the wire, or bytes are not what counts
_RATES_KEPT: Final = 8
_RATES_LEAST: Final = 3  # before anything is made of them


class _Sample(NamedTuple):
    """What compressing one chunk took and brought."""

    cost: float
    saving: float
    raw_bytes: int
    packed_bytes: int
    seconds: float


class Effort:
    """The choice. For the thread that sends; compressors in other threads report to it.

    level: of the next chunk. cpus: threads that compress, as many as there are CPUs for them. steps: to choose from.
    clock: seconds, monotonic. cpu_clock: CPU seconds of the calling thread.
    """

    def __init__(
        self,
        cpus: int,
        steps: Sequence[Step] = STEPS,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._steps = steps
        self._cpus = cpus
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._step = self._of_level(FIRST_LEVEL)
        self._chunks = 0
        self._samples: deque[_Sample] = deque()  # append and popleft are atomic
        self._base = BASE_SECONDS
        self._level_1 = LEVEL_1_SECONDS
        self._saving = LEVEL_1_SAVING
        self._rates: deque[float] = deque(maxlen=_RATES_KEPT)  # bytes a second that the link was seen to take
        self._far = 0.0  # bytes a second that the far end takes; 0: not known
        self._hold = _HOLD_PERIODS
        self._held = 0
        self._doubted = 0  # periods in which waiting says nothing
        self._before = 0.0  # data a second in the period that made us believe in a far end that is slow; 0: none
        self._spent = cpu_clock()
        self._period_link = math.inf  # the least that the link took in this period
        self._begin_period()

    @property
    def level(self) -> int:
        """Of the next chunk; STORED: none."""
        return self._step.level

    @property
    def step(self) -> Step:
        """The level with what is expected of it."""
        return self._step

    def begin(self) -> None:
        """Chunks are sent from now on: what a connection took to come about, and a turn to come, says nothing."""
        self._spent = self._cpu_clock()
        self._begin_period()

    def packed(self, step: Step, raw_bytes: int, packed_bytes: int, seconds: float) -> None:
        """Compressing a chunk took seconds of CPU time. From any thread."""
        self._samples.append(_Sample(step.cost, step.saving, raw_bytes, packed_bytes, seconds))

    def waited(self, seconds: float) -> None:
        """A chunk was ready and could not be sent for that long."""
        self._waited += seconds

    def sent(self, raw_bytes: int, wire_bytes: int, link_rate: float) -> None:
        """A chunk was sent. link_rate: bytes a second that the link was seen to take; 0: not known."""
        compressing = self._learn_compression()
        spent = self._cpu_clock()
        if raw_bytes >= _SAMPLE_BYTES:
            seconds = spent - self._spent - (compressing if self._cpus == 1 else 0.0)
            base = max(0.0, seconds / raw_bytes) / (1 + WIRE_COST * wire_bytes / raw_bytes)
            if self._cpus > 1:
                base += HASH_COST * self._level_1
            self._base += (base - self._base) * _WEIGHT
        self._spent = spent
        if link_rate:
            self._rates.append(link_rate)
        self._period_link = min(self._period_link, self._link_rate() or math.inf)
        self._period_raw += raw_bytes
        self._period_wire += wire_bytes
        if self._period_raw >= _PERIOD_BYTES:
            self._end_period()
        self._chunks += 1
        if len(self._rates) >= _RATES_LEAST or self._far:
            self._step = self._choose()
        elif self._chunks == _RATES_LEAST:
            self._step = self._of_level(BLIND_LEVEL)

    def _learn_compression(self) -> float:
        """Take in what compressors have reported. Returns their seconds."""
        total = 0.0
        while self._samples:
            sample = self._samples.popleft()
            total += sample.seconds
            if sample.raw_bytes >= _SAMPLE_BYTES and sample.cost:
                level_1 = sample.seconds / sample.raw_bytes / sample.cost
                saving = (1 - sample.packed_bytes / sample.raw_bytes) / sample.saving
                self._level_1 += (level_1 - self._level_1) * _WEIGHT
                self._saving += (saving - self._saving) * _WEIGHT
        return total

    def _end_period(self) -> None:
        elapsed = max(self._clock() - self._period_began, 1e-6)
        self._judge_far_end(self._waited / elapsed, self._period_raw / elapsed, self._period_wire / elapsed)
        self._begin_period()

    def _begin_period(self) -> None:
        self._period_began = self._clock()
        self._waited = 0.0
        self._period_raw = 0
        self._period_wire = 0
        self._period_link = math.inf

    def _judge_far_end(self, waited: float, raw_rate: float, rate: float) -> None:
        """Is the far end what keeps us waiting? waited: share of the period. Rates: of data, and on the wire."""
        before, self._before = self._before, 0.0
        if raw_rate < _GAIN * before:
            # It was sent less, and took no more: its digests or its disk keep it busy, whatever is on the wire.
            self._far, self._held, self._doubted = 0.0, 0, self._hold
        elif self._doubted:
            self._doubted -= 1
        elif waited >= _WAITED_SHARE and rate < _LINK_SHARE * self._period_link:
            if not self._far:
                self._hold *= 2
                self._before = raw_rate
            # What it has taken it can take: if it now takes less, bytes are not what keeps it busy.
            self._far = max(self._far, rate)
            self._held = self._hold
        elif self._held:
            self._held -= 1
            if not self._held:
                self._far = 0.0  # it may be faster by now: find out

    def _link_rate(self) -> float:
        """Bytes a second that the link takes; 0: not known.

        The second highest of the last readings: one may be too high, of a burst that fits a queue; many are too low,
        of a receiver that was busy for a moment.
        """
        return sorted(self._rates)[-2:][0] if self._rates else 0.0

    def _of_level(self, level: int) -> Step:
        """The step of a level, or the only one there is."""
        return next((step for step in self._steps if step.level == level), self._steps[0])

    def _choose(self) -> Step:
        rate = min(self._link_rate() or math.inf, self._far or math.inf)
        best = min(self._steps, key=lambda step: self._seconds(step, rate))
        return best if self._seconds(best, rate) < INERTIA * self._seconds(self._step, rate) else self._step

    def _seconds(self, step: Step, rate: float) -> float:
        """Expected for a byte of data."""
        left = min(1.0, max(0.01, 1 - self._saving * step.saving))
        working = self._base * (1 + WIRE_COST * left) + self._level_1 * step.cost
        return max(working / self._cpus, left / rate)


class AdaptiveCompressor:
    """Compresses as an Effort says, and tells it what came of it. One for each thread that compresses.

    Holds the context of one level at a time, which is what a compressor of fixed level costs (netdump.codec). What
    follows incompressible data is tried in a few places first: level 1 takes six times as long to find out.
    """

    __slots__ = ("_compressor", "_doubtful", "_effort")

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._compressor: Compressor | None = None
        self._doubtful = False

    def compress(self, data: Buffer) -> Buffer:
        """One zstd frame; data itself if it is to be stored."""
        step = self._effort.step
        if step.level == STORED:
            return data
        begun = time.thread_time()
        if self._compressor is None or self._compressor.level != step.level:
            self._compressor = None  # first the old one goes
            self._compressor = Compressor(step.level)
        packed = data
        if not self._doubtful or seems_compressible(data, self._compressor):
            packed = self._compressor.compress(data)
            self._doubtful = not is_worth_it(len(packed), len(data))
            packed = data if self._doubtful else packed
        self._effort.packed(step, len(data), len(packed), time.thread_time() - begun)
        return packed
