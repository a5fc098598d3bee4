"""The panic line: one case a rule and architecture, then whatever bytes a peer may send."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.analyze import panic
from netdump.analyze.panic import BEGINNINGS, CONSEQUENCES, PANIC_CHARS_MAX, find_panic, panic_line

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "=> "

# The messages of a log. The one that an engineer would take is marked.
CASES: dict[str, tuple[str, ...]] = {
    "sysrq": (
        "sysrq: Trigger a crash",
        "=> Kernel panic - not syncing: sysrq triggered crash",
        "CPU: 1 PID: 1",
    ),
    "sysrq-by-null-pointer": (
        "=> SysRq : Trigger a crash",
        "BUG: unable to handle kernel NULL pointer dereference at           (null)",
        "IP: [<ffffffff81504df6>] sysrq_handle_crash+0x16/0x20",
        "Oops: 0002 [#1] SMP ",
    ),
    "sysrq-long-ago": (
        "SysRq : Trigger a crash",
        *["a message of no importance"] * 200,
        "=> BUG: kernel NULL pointer dereference, address: 8",
        "Oops: 0002 [#1] SMP",
    ),
    "page-fault": (
        "=> BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "#PF: supervisor read access in kernel mode",
        "PGD 0 P4D 0 ",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "---[ end trace 0000000000000000 ]---",
        "Kernel panic - not syncing: Fatal exception",
        "---[ end Kernel panic - not syncing: Fatal exception ]---",
    ),
    "page-fault-6.14": (
        "=> BUG: unable to handle page fault for address: ffffc90000010000",
        "Oops: Oops: 0002 [#1] SMP NOPTI",
        "Kernel panic - not syncing: Fatal exception in interrupt",
    ),
    "no-panic-line": (
        "=> BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "RIP: 0010:f+0x1/0x2",
    ),
    "bug-on": (
        "------------[ cut here ]------------",
        "=> kernel BUG at mm/slub.c:379!",
        "invalid opcode: 0000 [#1] SMP PTI",
        "Kernel panic - not syncing: Fatal exception in interrupt",
    ),
    "control-flow": (
        "=> CFI failure at foo+0x12/0x40 (target: bar+0x0/0x10; expected type: 0x4d2f6b11)",
        "Internal error: Oops - CFI: 00000000f2008228 [#1] PREEMPT SMP",
        "Kernel panic - not syncing: Oops - CFI: Fatal exception",
    ),
    "general-protection": (
        "=> general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] PREEMPT SMP",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "general-protection-after-a-bug-of-its-own": (
        "BUG: Bad page state in process x  pfn:1",
        "=> Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
    ),
    "divide": (
        "=> divide error: 0000 [#1] SMP",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "double-fault-old": (
        "=> PANIC: double fault, error_code: 0x0",
        "Kernel panic - not syncing: Machine halted.",
    ),
    "arm": (
        "8<--- cut here ---",
        "=> Unable to handle kernel NULL pointer dereference at virtual address 00000000",
        "pgd = c0004000",
        "Internal error: Oops: 817 [#1] SMP ARM",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "arm64": (
        "=> Unable to handle kernel paging request at virtual address dead000000000108",
        "Mem abort info:",
        "Internal error: Oops: 0000000096000044 [#1] PREEMPT SMP",
        "Kernel panic - not syncing: Oops: Fatal exception",
    ),
    "arm64-bug": (
        "=> kernel BUG at fs/inode.c:300!",
        "Internal error: Oops - BUG: 00000000f2000800 [#1] SMP",
        "Kernel panic - not syncing: Oops - BUG: Fatal exception in interrupt",
    ),
    "arm64-abort": (
        "=> Internal error: synchronous external abort: 0000000096000210 [#1] SMP",
        "Kernel panic - not syncing: synchronous external abort: Fatal exception",
    ),
    "s390": (
        "=> Unable to handle kernel pointer dereference in virtual kernel address space",
        "Failing address: 0000000000000000 TEID: 0000000000000483",
        "Oops: 0004 ilc:3 [#1] SMP ",
        "Kernel panic - not syncing: Fatal exception: panic_on_oops",
    ),
    "powerpc": (
        "=> BUG: Kernel NULL pointer dereference on read at 0x00000000",
        "Faulting instruction address: 0xc000000000000000",
        "Oops: Kernel access of bad area, sig: 11 [#1]",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "mips": (
        "=> CPU 0 Unable to handle kernel paging request at virtual address 00000010, epc == 80123456, ra == 80123450",
        "Oops[#1]:",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "riscv": (
        "=> Unable to handle kernel access to user memory without uaccess routines at virtual address 0000000000000000",
        "Oops [#1]",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "survived-oops-then-own-reason": (
        "BUG: kernel NULL pointer dereference, address: 1",
        "Oops: 0000 [#1] SMP",
        "=> Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled",
    ),
    "two-oopses": (
        "BUG: kernel NULL pointer dereference, address: 1",
        "Oops: 0000 [#1] SMP",
        "=> kernel BUG at b.c:2!",
        "invalid opcode: 0000 [#2] SMP",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "report-after-oops": (
        "=> BUG: kernel NULL pointer dereference, address: 1",
        "Oops: 0000 [#1] SMP",
        "BUG: sleeping function called from invalid context at x.h:1",
        "BUG: something new after it",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "cause-of-an-earlier-trap": (
        "BUG: kernel NULL pointer dereference, address: 1",
        "Oops: 0000 [#1] SMP",
        "=> Oops: 0000 [#2] SMP",
        "Kernel panic - not syncing: Fatal exception",
    ),
    "fatal-exception-alone": ("=> Kernel panic - not syncing: Fatal exception",),
    "init-killed": ("=> Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",),
    "init-killed-by-oops": (
        "=> kernel BUG at a.c:1!",
        "invalid opcode: 0000 [#1] SMP",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
    ),
    "init-killed-long-after-an-oops": (
        "kernel BUG at a.c:1!",
        "invalid opcode: 0000 [#1] SMP",
        *["something else happens here"] * 2000,
        "=> Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    ),
    "hung-task": (
        "=> INFO: task kworker/0:1:123 blocked for more than 120 seconds.",
        "      Not tainted 6.1.0 #1",
        "Kernel panic - not syncing: hung_task: blocked tasks",
    ),
    "hung-task-in-io-wait": (
        "=> INFO: task dd:456 blocked in I/O wait for more than 122 seconds.",
        "      Not tainted 6.16.0 #1",
        "INFO: task dd:456 is blocked on a mutex, but the owner is not found.",
        "Kernel panic - not syncing: hung_task: blocked tasks",
    ),
    "hung-task-whose-lock-is-known": (
        "=> INFO: task cat:115 blocked for more than 120 seconds.",
        "INFO: task cat:115 <writer> blocked on an rw-semaphore likely owned by task cat:114 <reader>",
        "INFO: task cat:115 is blocked on a mutex likely owned by task cat:114.",
        "task:cat             state:S stack:13432 pid:114",
    ),
    "soft-lockup": (
        "=> watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cat:77]",
        "Kernel panic - not syncing: softlockup: hung tasks",
    ),
    "hard-lockup": (
        "=> NMI watchdog: Watchdog detected hard LOCKUP on cpu 3",
        "Kernel panic - not syncing: Hard LOCKUP",
    ),
    "hard-lockup-seen-by-another": (
        "=> watchdog: CPU2: Watchdog detected hard LOCKUP on cpu 3",
        "Kernel panic - not syncing: Hard LOCKUP",
    ),
    "hard-lockup-powerpc": (
        "=> watchdog: CPU 23 self-detected hard LOCKUP @ mm_get_cid+0xe8/0x188",
        "watchdog: CPU 23 TB:5287683334232, last heartbeat TB:5281606533730 (11868ms ago)",
        "Kernel panic - not syncing: Hard LOCKUP",
    ),
    "rcu-stall": (
        "=> rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "Kernel panic - not syncing: RCU Stall",
    ),
    "nmi": (
        "=> Uhhuh. NMI received for unknown reason 3d on CPU 0.",
        "Kernel panic - not syncing: NMI: Not continuing",
    ),
    "machine-check": (
        "mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: b200000000070f0f",
        "=> Kernel panic - not syncing: Fatal machine check",
    ),
    "warning": (
        "=> WARNING: CPU: 1 PID: 12 at kernel/foo.c:12 foo+0x1/0x2",
        "Kernel panic - not syncing: kernel: panic_on_warn set ...",
    ),
    "kasan": (
        "=> BUG: KASAN: use-after-free in foo+0x1/0x2",
        "Kernel panic - not syncing: kasan.fault=panic set ...",
    ),
    "root-fs": ("=> Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",),
    "first-panic-counts": (
        "=> Kernel panic - not syncing: first",
        "Kernel panic - not syncing: second",
    ),
    "quotation": (
        "foo: last time: Kernel panic - not syncing: x",
        "---[ end Kernel panic - not syncing: x ]---",
    ),
    "hang-without-panic": ("=> watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cat:77]",),
    "warning-without-panic": ("WARNING: CPU: 1 PID: 12 at kernel/foo.c:12 foo+0x1/0x2",),
    "healthy": (
        "Linux version 6.1.0",
        "foo: config [#1]",
    ),
    "empty": (),
}

PREFIXES = {
    "bare": "",
    "level": "<0>",
    "time": "[   14.621216] ",
    "late": "[1234567.000001] ",
    "caller": "[   14.621216][  T211] ",
    "cpu": "[   14.621216][    C0] ",
}


def log_of(name: str, prefix: str = PREFIXES["time"]) -> str:
    return "".join(f"{prefix}{message.removeprefix(MARK)}\n" for message in CASES[name])


def expected_of(name: str) -> str | None:
    marked = [message.removeprefix(MARK) for message in CASES[name] if message.startswith(MARK)]
    assert len(marked) <= 1
    return marked[0] if marked else None


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", CASES)
def test_the_line_that_an_engineer_would_take(name: str, prefix: str) -> None:
    assert panic_line(log_of(name, PREFIXES[prefix]).encode()) == expected_of(name)


@pytest.mark.parametrize("name", [name for name in CASES if expected_of(name)])
def test_the_place_is_that_of_the_line(name: str) -> None:
    log = log_of(name)
    found = find_panic(log.encode())
    assert found is not None
    before = log[: found.position].splitlines()
    marked = next(number for number, message in enumerate(CASES[name]) if message.startswith(MARK))
    assert (len(before) - 1, before[-1]) == (marked, PREFIXES["time"])


@pytest.mark.parametrize("name", CASES)
def test_boot_messages_before_change_nothing(name: str) -> None:
    before = "[    0.000000] Linux version 6.1.0\n[    0.100000] foo: config [#1]\n" * 50
    assert panic_line((before + log_of(name)).encode()) == expected_of(name)


@pytest.mark.parametrize("name", [name for name in CASES if "Kernel panic - " in log_of(name) and expected_of(name)])
def test_what_a_dying_kernel_prints_after_its_panic_changes_nothing(name: str) -> None:
    after = "BUG: unable to handle page fault for address: 0\nOops: 0000 [#9] SMP\nKernel panic - not syncing: again\n"
    assert panic_line((log_of(name) + after).encode()) == expected_of(name)


@pytest.mark.parametrize("name", CASES)
def test_where_the_log_is_cut_to_be_searched_makes_no_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 7, 100):
        monkeypatch.setattr(panic, "_PIECE_BYTES", size)
        assert panic_line(log_of(name).encode()) == expected_of(name)


def test_others_have_their_turn_while_a_log_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may send 8 MiB of this, in a kilobyte. A pattern that is at work lets no other thread run."""
    pieces = []

    class Spy:
        def finditer(self, log: bytes, start: int = 0, end: int = sys.maxsize) -> Iterator[re.Match[bytes]]:
            pieces.append(min(end, len(log)) - start)
            return re.finditer(b"(?!)", b"")

    monkeypatch.setattr(panic, "_LINE", Spy())
    assert panic_line(b"a: 0\n" * 100_000) is None
    assert sum(pieces) == 500_001
    assert max(pieces) < 20_000


def test_every_consequence_has_a_case() -> None:
    logs = "".join(map(log_of, CASES)).encode()
    assert [row.text.pattern for row in CONSEQUENCES if not row.text.search(logs)] == []
    assert len(BEGINNINGS) == len({kind for kind, _ in BEGINNINGS})


def test_a_last_line_without_line_feed_counts() -> None:
    assert panic_line(b"a\n[    1.2] Kernel panic - not syncing: cut of") == "Kernel panic - not syncing: cut of"


def test_the_spelling_of_2_4_kernels_counts() -> None:
    assert panic_line(b"<0>Kernel panic: Attempted to kill init!\n") == "Kernel panic: Attempted to kill init!"


def test_control_characters_and_line_breaks_are_removed() -> None:
    log = "Kernel panic - not syncing: a\x1b[31mb\x07\u202e\u2028c\x85\td\x00\r\n".encode() + b"\xff\xfe\n"
    assert panic_line(log) == "Kernel panic - not syncing: a[31mb c d"


def test_invalid_utf8_is_replaced_and_length_bounded() -> None:
    line = panic_line(b"Kernel panic - not syncing: \xff" + b"x" * 100_000)
    assert line is not None
    assert line.startswith("Kernel panic - not syncing: \ufffdx")
    assert len(line) == PANIC_CHARS_MAX


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([log_of(name).encode() for name in CASES])), max_size=8)
)
def test_any_bytes_give_a_clean_line_or_none(parts: list[bytes]) -> None:
    line = panic_line(b"\n".join(parts))
    if line is not None:
        assert 0 < len(line) <= PANIC_CHARS_MAX
        assert line == line.strip()
        assert not any(unicodedata.category(character)[0] == "C" for character in line)


HOSTILE = [
    b"\n",
    b"BUG: \n",
    b"Oops: 0000 [#1]\n",
    b"INFO: task " + b"x" * 120,
    b": 0" * 60 + b"\n",
    b"[   1.0]" * 9 + b"\n",
    b"a" * 160 + b"\n",
    b"<1>[  ",
    b"SysRq : ",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_time_grows_with_the_length_only(line: bytes) -> None:
    def seconds(size: int) -> float:
        log = line * (size // len(line))
        start = time.process_time()
        panic_line(log)
        return time.process_time() - start

    seconds(1 << 16)
    # 16 times the text; a quadratic rule would need 256 times as long.
    assert seconds(1 << 20) < 60 * max(seconds(1 << 16), 0.002)
