"""The panic line: the one line of a kernel log that says why the machine died.

Owns the rule below. Must not read dumps or know how a log was obtained; the log may be hostile, so the work is one pass
with constant memory, whatever the text.

The rule. The kernel prints up to three kinds of lines about a death, in this order: the *cause* ("BUG: kernel NULL
pointer dereference", "kernel BUG at mm/slub.c:379!", "INFO: task X blocked for more than 120 seconds."), for a trap
the *die line* ("Oops: 0000 [#1] SMP"), and the *panic* ("Kernel panic - not syncing: Fatal exception"). Who reads logs
takes the first that says something of its own:

1. A panic whose text is a mere consequence (table CONSEQUENCES) stands for the last line before it of a kind that leads
   to it; if there is none, or it lies too far back for the two to belong together, the panic line itself is taken.
2. Any other panic line is taken as it is: "sysrq triggered crash", "VFS: Unable to mount root fs".
3. Without a panic line (an Oops starts the capture kernel by itself) the last trap is taken; failing that a requested
   crash (sysrq), a bug report, a hang, in this order.
4. A trap is named by the last cause line shortly before its die line, when the die line itself says no more than that
   it was one ("Oops", "invalid opcode"). A crash that was requested through sysrq is named by the request, although old
   kernels carry it out with a NULL pointer.

Only the first panic counts: what follows is printed by a kernel that has died already. A line counts by how its message
begins, after timestamp and caller: "---[ end Kernel panic" is none, and neither is a quotation.

Source: what Linux 3.10 to 6.18 print in kernel/panic.c, kernel/hung_task.c, kernel/watchdog*.c, kernel/cfi.c,
lib/bug.c, kernel/rcu/tree_stall.h, drivers/tty/sysrq.c, arch/*/kernel/{traps,dumpstack,nmi,watchdog}.c and
arch/*/mm/fault.c.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PANIC_CHARS_MAX: Final = 240
"""The longest panic line that is kept, in characters."""

_PIECE_BYTES: Final = 16384
"""Of a log that is searched in one go, to the end of a line: meanwhile no other thread has its turn, and 8 MiB of lines
that nearly count take seconds."""

_REPORT_BYTES: Final = 4096  # a cause stands at most this far before its die line; arm64 prints 20 lines in between
_TIE_BYTES: Final = 32768  # a panic that a trap may have led to follows it this closely, or it has a reason of its own
_LINE_BYTES: Final = 4 * PANIC_CHARS_MAX  # UTF-8 needs at most four bytes a character


class Kind(Enum):
    """What a line of the log tells."""

    PANIC = auto()
    DIE = auto()
    """A trap that says by itself what it is (general protection fault)."""
    BARE_DIE = auto()
    """A trap that only says that it is one (Oops: 0002 [#1])."""
    CAUSE = auto()
    """Opens the report of a trap."""
    REPORT = auto()
    """A warning or a checker's finding; the kernel goes on unless told to panic."""
    HUNG_TASK = auto()
    SOFT_LOCKUP = auto()
    HARD_LOCKUP = auto()
    STALL = auto()
    NMI = auto()
    REQUEST = auto()
    """Somebody asked for the crash."""


_BARE: Final = rb"Kernel BUG|Kernel access of bad area|Exception in kernel mode"

# How messages begin. The first that fits counts. Every repetition is bounded, so that a line costs constant time.
BEGINNINGS: Final[tuple[tuple[Kind, bytes], ...]] = (
    (Kind.PANIC, rb"Kernel panic(?: - not syncing)?: "),
    (Kind.REQUEST, rb"(?:SysRq : |sysrq: )(?:SysRq : )?(?:Trigger a crash|Crash)"),
    (Kind.SOFT_LOCKUP, rb"BUG: soft lockup"),
    (Kind.REPORT, rb"WARNING: |UBSAN: |BUG: (?:K[A-Z]{2,5}: |sleeping |scheduling |workqueue lockup|Bad |using )"),
    (
        Kind.CAUSE,
        rb"BUG: |[kK]ernel BUG at |Unable to handle kernel|Unhandled fault|Bad mode in|PANIC: double fault|CFI failure",
    ),
    (
        Kind.BARE_DIE,
        rb"(?:Oops: |Internal error: )?(?:Oops|invalid opcode|monitor event|%s)[^\n\[]{0,120}\[#\d" % _BARE,
    ),
    (Kind.DIE, rb"[^\n\[]{1,160}: [0-9a-f]{1,16}(?: ilc:\d)? \[#\d"),
    (Kind.HUNG_TASK, rb"INFO: task [^\n]{1,120} blocked (?:in I/O wait )?for more than "),  # not on which lock (v6.16)
    (
        Kind.HARD_LOCKUP,
        rb"(?:CPU\d{1,5}: )?Watchdog detected hard LOCKUP|CPU \d{1,5} (?:self-)?detected hard LOCKUP",
    ),
    (Kind.STALL, rb"INFO: rcu\w{0,20} (?:self-)?detected "),
    (Kind.NMI, rb"Uhhuh\. NMI received|NMI: (?:IOCK|PCI) "),
)

_KINDS: Final = tuple(kind for kind, _ in BEGINNINGS)

# Group 1: what printk and the console put before a message: "<6>", "[   14.621216]", "[    T31]" or "[   C0]".
# Then maybe the name of a subsystem.
_LINE: Final = re.compile(
    rb"(\n(?!\n)(?:<\d{1,4}>)?(?:\[[ \d]{1,12}\.\d{1,9}\])?(?:\[ {0,10}[TC]\d{1,10}\])? {0,2})"
    rb"(?:(?:NMI )?watchdog: |rcu: |traps: |CPU \d{1,5} )?(?:"
    + rb"|".join(b"(%s)" % text for _, text in BEGINNINGS)
    + rb")"
)

_TRAPS: Final = frozenset({Kind.DIE, Kind.BARE_DIE})
_HANGS: Final = frozenset({Kind.HUNG_TASK, Kind.SOFT_LOCKUP, Kind.HARD_LOCKUP, Kind.STALL, Kind.NMI})

Choice = tuple[frozenset[Kind], ...]
"""Kinds in order of preference; among those of one set the latest line counts."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """A panic text that tells less than what led to it. reach: bytes of log between the two at most."""

    text: re.Pattern[bytes]
    causes: Choice
    reach: int | None = None


CONSEQUENCES: Final[tuple[Consequence, ...]] = (
    Consequence(re.compile(rb"Fatal exception|Machine halted|BUG!"), (_TRAPS, frozenset({Kind.CAUSE}))),
    Consequence(re.compile(rb"panic_on_(?:warn|taint)|kasan\.fault|kfence\.fault"), (frozenset({Kind.REPORT}),)),
    Consequence(re.compile(rb"hung_task"), (frozenset({Kind.HUNG_TASK}),)),
    Consequence(re.compile(rb"softlockup"), (frozenset({Kind.SOFT_LOCKUP}),)),
    Consequence(re.compile(rb"Hard LOCKUP"), (frozenset({Kind.HARD_LOCKUP}),)),
    Consequence(re.compile(rb"RCU Stall"), (frozenset({Kind.STALL}),)),
    Consequence(re.compile(rb"NMI[: ]"), (frozenset({Kind.NMI}),), _TIE_BYTES),
    Consequence(re.compile(rb"Attempted to kill|Aiee"), (_TRAPS,), _TIE_BYTES),
)

_WITHOUT_PANIC: Final[Choice] = (_TRAPS, frozenset({Kind.REQUEST}), frozenset({Kind.CAUSE}), _HANGS)


@dataclass(frozen=True, slots=True)
class Panic:
    """text: as panic_line returns it. position: a byte of the log, in the line that it is taken from."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that counts. start: of its message in the log. text: what names it, its own message as a rule.

    place: of the message that text is of.
    """

    kind: Kind
    start: int
    text: bytes
    place: int


@dataclass(slots=True)
class _Reading:
    """What has been read so far: the last line of each kind, traps with the text that names them."""

    last: dict[Kind, _Line] = field(default_factory=dict)

    def take(self, line: _Line) -> None:
        if line.kind not in _TRAPS:
            self.last[line.kind] = line
            return
        name = self._name(line)
        # One report names one trap, and the last trap is the only one that matters.
        for kind in (Kind.CAUSE, Kind.REQUEST, *_TRAPS):
            self.last.pop(kind, None)
        self.last[line.kind] = _Line(line.kind, line.start, name.text, name.place)

    def _name(self, trap: _Line) -> _Line:
        for kind in (Kind.REQUEST, Kind.CAUSE) if trap.kind is Kind.BARE_DIE else (Kind.REQUEST,):
            before = self.last.get(kind)
            if before is not None and trap.start - before.start <= _REPORT_BYTES:
                return before
        return trap

    def choose(self, choice: Choice) -> _Line | None:
        for kinds in choice:
            lines = [self.last[kind] for kind in kinds if kind in self.last]
            if lines:
                return max(lines, key=lambda line: line.start)
        return None


def panic_line(log: bytes) -> str | None:
    """The line of a kernel log that says why the machine died, by the rule of this module; None if no line does.

    log: as dmesg prints it, newest last, any bytes. The answer is the message without timestamp and caller, at most
    PANIC_CHARS_MAX characters, free of control characters. Time is linear in the log's length; one copy of it is made.
    """
    found = find_panic(log)
    return None if found is None else found.text


def find_panic(log: bytes) -> Panic | None:
    """The same, and where it stands in the log."""
    found = _find(log)
    text = None if found is None else _clean(found.text)
    return None if found is None or text is None else Panic(text, found.place)


def _find(log: bytes) -> _Line | None:
    reading = _Reading()
    for match in _matches(b"\n" + log):
        assert match.lastindex is not None
        start = match.end(1)
        text = match.string[start : start + _LINE_BYTES].partition(b"\n")[0]
        line = _Line(_KINDS[match.lastindex - 2], start, text, start - 1)
        if line.kind is Kind.PANIC:
            return _explain(line, reading)
        reading.take(line)
    return reading.choose(_WITHOUT_PANIC)


def _matches(log: bytes) -> Iterator[re.Match[bytes]]:
    """The lines that count, in their order. log: begins with a line feed."""
    start = 0
    while start < len(log):
        end = log.find(b"\n", start + _PIECE_BYTES)
        end = len(log) if end < 0 else end
        yield from _LINE.finditer(log, start, end)
        start = end


def _explain(panic: _Line, reading: _Reading) -> _Line:
    for consequence in CONSEQUENCES:
        if consequence.text.search(panic.text):
            cause = reading.choose(consequence.causes)
            if cause is not None and (consequence.reach is None or panic.start - cause.start <= consequence.reach):
                return cause
            break
    return panic


def _clean(text: bytes) -> str | None:
    """Text fit for a terminal, an index and a page: bounded, one line, no control, format or unassigned characters."""
    shown = "".join(
        " " if character.isspace() else character
        for character in text.decode("utf-8", "replace")
        if character == "\t" or unicodedata.category(character)[0] != "C"
    )
    return shown.strip()[:PANIC_CHARS_MAX].rstrip() or None
