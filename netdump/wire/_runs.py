"""The run table of a chunk: bytes <-> runs, and every rule about runs ([W-46] to [W-50]).

Owns the format of a run. Must not know frames, credit or the order of chunks.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.pages import ExcludeClass, PageState, Run, make_run
from netdump.wire._registry import CHUNK_DATA_MAX, CHUNK_LENGTH_MAX, CHUNK_RUNS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RUN: Final = struct.Struct(">BBHI")
_SOURCE: Final = struct.Struct(">Q")
_TABLE_MAX: Final = CHUNK_RUNS_MAX * (_RUN.size + _SOURCE.size)

_STATES: Final = {int(state): state for state in PageState}
_CLASSES: Final = {int(reason): reason for reason in ExcludeClass}
_DATA: Final = int(PageState.DATA)
_ALIAS: Final = int(PageState.ALIAS)
_EXCLUDED: Final = int(PageState.EXCLUDED)

_SOUND: Final = frozenset((state, 0) for state in _STATES if state not in {_ALIAS, _EXCLUDED}) | frozenset(
    (_EXCLUDED, reason) for reason in _CLASSES if reason
)
"""(state, class) of runs that fulfil all there is to fulfil for these, by far the most. Aliases prove themselves."""

assert (_RUN.size, _SOURCE.size) == (8, 8)

_Plain = tuple[int, int, int, int]  # state, bytes, class, source: a run before it is worth an object


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-field", f"the run table of a chunk is wrong: {text}")


def _scan(table: bytes, offset: int, length: int) -> list[_Plain]:
    """All runs of a table that keeps every rule. Plain numbers: the event loop does this for each chunk."""
    if len(table) > _TABLE_MAX:
        raise _bad(f"{len(table)} bytes are more than {CHUNK_RUNS_MAX} runs can have")
    if len(table) % _RUN.size:
        raise _bad("it ends inside a run")
    runs: list[_Plain] = []
    start = offset
    before: _Plain = (-1, 0, 0, 0)
    words = _RUN.iter_unpack(table)
    for state, reason, reserved, size in words:  # what a hostile host can make the collector's loop do most of
        source = 0
        if state == _ALIAS:
            word = next(words, None)
            if word is None:
                raise _bad("it ends inside a run")
            (source,) = _SOURCE.unpack(_RUN.pack(*word))
        run = (state, size, reason, source)
        if (state, reason) not in _SOUND or reserved or not 1 <= size <= CHUNK_LENGTH_MAX:
            _check_run(run, reserved, start)
        if state == before[0] and reason == before[2] and (state != _ALIAS or source == before[3] + before[1]):
            raise _bad(f"two runs of state {state} at image offset {start} are one")
        runs.append(run)
        before = run
        start += size
    if not 1 <= len(runs) <= CHUNK_RUNS_MAX:
        raise _bad(f"it has {len(runs)} runs, allowed are 1 to {CHUNK_RUNS_MAX}")
    if start - offset != length:
        raise _bad(f"its runs cover {start - offset} of the {length} bytes of the chunk")
    if _data_bytes(runs) > CHUNK_DATA_MAX:
        raise _bad(f"more than {CHUNK_DATA_MAX} bytes of raw data")
    return runs


def _check_run(run: _Plain, reserved: int, start: int) -> None:
    """What one run must fulfil by itself. start: its image offset. Spec: [W-46], [W-49], [W-50]."""
    state, size, reason, source = run
    if state not in _STATES:
        raise _bad(f"unknown page state {state}")
    if reason not in _CLASSES:
        raise _bad(f"unknown exclude class {reason}")
    if (reason != 0) != (state == _EXCLUDED):
        raise _bad(f"exclude class {reason} with page state {state}")
    if reserved:
        raise _bad("reserved bits are set")
    if not 1 <= size <= CHUNK_LENGTH_MAX:
        raise _bad(f"a run of {size} bytes")
    if state == _ALIAS and source + size > start:
        raise _bad(f"the alias at image offset {start} has a source that is not wholly before it")


def _data_bytes(runs: list[_Plain]) -> int:
    return sum(run[1] for run in runs if run[0] == _DATA)


def check_runs(table: bytes, offset: int, length: int) -> int:
    """Check a table by all rules and return the bytes of raw data it calls for.

    offset, length: of the chunk. Raises RemoteProtocolError (bad-field). Spec: [W-46] to [W-50].
    """
    return _data_bytes(_scan(table, offset, length))


def iter_runs(table: bytes) -> Iterator[tuple[int, int, int]]:
    """(state, class, bytes) of each run of a table that was checked, as plain numbers: there may be millions.

    Raises RemoteProtocolError (bad-field) for a table that is cut; nothing else is looked at.
    """
    if len(table) % _RUN.size:
        raise _bad("it ends inside a run")
    words = _RUN.iter_unpack(table)
    for state, reason, _, size in words:
        if state == _ALIAS and next(words, None) is None:  # its source
            raise _bad("it ends inside a run")
        yield state, reason, size


def unpack_runs(table: bytes, offset: int, length: int) -> list[Run]:
    """The runs of a table, in image order. offset, length: of the chunk.

    Raises RemoteProtocolError (bad-field). Spec: [W-46] to [W-50].
    """
    return [
        make_run((_STATES[state], size, _CLASSES[reason], source))
        for state, size, reason, source in _scan(table, offset, length)
    ]


def pack_runs(runs: Iterable[Run]) -> bytes:
    """The table of these runs, as they stand. Whether they suit a chunk is checked when the chunk is packed.

    Raises LocalProtocolError (bad-field) for a number that its place in the table cannot hold.
    """
    table = bytearray()
    try:
        for run in runs:
            state, length, exclude, source = run
            table += _RUN.pack(state, exclude, 0, length)
            if state == _ALIAS:
                table += _SOURCE.pack(source)
            elif source:
                raise LocalProtocolError("bad-field", f"a source with page state {state}, which has none")
    except struct.error as error:
        raise LocalProtocolError("bad-field", f"a run does not fit its place in the run table: {error}") from None
    return bytes(table)


def raw_bytes(runs: Iterable[Run]) -> int:
    """Bytes of raw data: the lengths of the DATA runs added up."""
    return sum(run.length for run in runs if run.state == _DATA)
