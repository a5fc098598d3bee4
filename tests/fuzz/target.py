"""What a fuzz target is, and the judgement of one input: only declared errors, bounded time, bounded memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parent / "corpus"
MIB = 1 << 20
CPU_SECONDS_MAX = 5.0  # for one input, under tracemalloc and on a loaded machine: some hundred times what it takes


class Target(NamedTuple):
    """A parser of foreign bytes.

    run: takes one input. errors: what it may raise; anything else is a finding, and so is an AssertionError of run
    itself. seeds: sound inputs, made anew. bytes_max: of an input. memory_max: bytes of Python memory for one input.
    rounds: mutated inputs in CI.
    """

    name: str
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    bytes_max: int = 4096
    memory_max: int = 8 * MIB
    rounds: int = 300


def corpus(target: Target) -> list[bytes]:
    """The inputs kept for a target: what was once a finding, and what leads deep."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]


def judge(target: Target, data: bytes) -> None:
    """Give one input to a target. Raises what is not declared, and AssertionError for too much time or memory."""
    begun = time.thread_time()
    tracemalloc.start()
    try:
        target.run(data)
    except target.errors:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    spent = time.thread_time() - begun
    assert spent < CPU_SECONDS_MAX, f"{target.name}: {spent:.1f} s for {len(data)} bytes"
    assert peak < target.memory_max, f"{target.name}: {peak:,} bytes of memory for {len(data)} bytes"
