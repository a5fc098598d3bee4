"""Whether the client is started again after it ended without having delivered the dump, and after which pause.

Owns what its exit statuses mean for that, and what is remembered of earlier lives. A collector or network that fails
is tried until the deadline, with growing pauses; a client that dies is not, unless it gets on between its deaths.
"""

from __future__ import annotations

from netdump.namedtuple import NamedTuple

# Exit statuses of the client (netdump/errors.py) after which trying again is no use: the core, the settings, and
# collectors that do not want this dump.
HOPELESS = frozenset((*range(10, 30), 34))
# And those after which it seldom is: somebody else answers, or the collector refuses this host.
DOUBTFUL = frozenset({32, 33})
# Those of which collector or network are the reason. All others are deaths: a signal, a fault of the client's own.
FAILED = frozenset({30, 31, 32, 33, 35, 38})
LATE = 35  # the deadline has passed, or no collector wants this dump before it

PAUSE_MIN, PAUSE_MAX = 1.0, 60.0  # between two lives of the client: each asks the collector several times
CLIENT_GRACE = 20.0  # seconds: the client's own deadline comes that much before ours
LATE_SECONDS = CLIENT_GRACE + 2  # left of ours when the client's own passes, or is too near to try again, at most
DOUBT_SECONDS = 180.0  # for what may pass: an address that two machines claim, a collector that is being set up
DEATHS_MAX = 20  # of the client, without PROGRESS_BYTES sent between them
PROGRESS_BYTES = 1 << 20  # in one life of the client: more than handshake and kernel log, which each life may send anew


class Verdict(NamedTuple):
    """pause: seconds until the client is started again, None if it is not. remark: for people, "" for none."""

    pause: float | None
    remark: str


class Restarts:
    """The lives of the client so far. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._deaths = 0
        self._pause = PAUSE_MIN
        self._doubt_until: float | None = None

    def judge(self, status: int | None, sent_bytes: int, now: float, left: float) -> Verdict:
        """What follows from how the client ended.

        status: as an exit status, but not 0; negative for a signal, None if it had to be left behind. sent_bytes: in
        this life. left: until the deadline.
        """
        if sent_bytes >= PROGRESS_BYTES:
            self._deaths, self._pause, self._doubt_until = 0, PAUSE_MIN, None
        if status not in DOUBTFUL:
            self._doubt_until = None
        elif self._doubt_until is None:
            self._doubt_until = now + DOUBT_SECONDS
        doubt_left = None if self._doubt_until is None else self._doubt_until - now
        unwanted = status == LATE and left > LATE_SECONDS
        if status in HOPELESS or unwanted or (doubt_left is not None and doubt_left <= 0):
            return Verdict(None, "trying again is of no use")
        if status not in FAILED:
            self._deaths, self._pause = self._deaths + 1, PAUSE_MIN
            if self._deaths >= DEATHS_MAX:
                return Verdict(None, f"the client ended {self._deaths} times without getting on")
        pause, self._pause = min(self._pause, left), min(PAUSE_MAX, 2 * self._pause)
        if doubt_left is not None:
            return Verdict(min(pause, doubt_left), f"that may pass: trying again for {doubt_left:.0f} s")
        return Verdict(pause, f"trying again in {pause:.0f} s" if status in FAILED else "")
