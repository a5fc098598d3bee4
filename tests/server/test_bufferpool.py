"""Buffers for frames: of the right size, used again, never more kept than is allowed."""

from __future__ import annotations

from typing import cast

from netdump.server import bufferpool
from netdump.server.bufferpool import SHORT_BYTES, STEP_BYTES, BufferPool
from netdump.wire import FRAME_MAX


def test_what_is_given_back_is_used_again() -> None:
    subject = BufferPool()
    first = subject.take(300_000)
    assert len(first) == 300_000
    subject.give(first.toreadonly())
    second = subject.take(300_001)
    assert len(second) == 300_001
    assert second.obj is first.obj
    assert subject.take(300_000).obj is not first.obj, "it is in use"


def test_a_buffer_is_hardly_longer_than_its_frame() -> None:
    subject = BufferPool()
    for size in (SHORT_BYTES, SHORT_BYTES + 1, 1 << 20, FRAME_MAX):
        frame = subject.take(size)
        assert len(frame) == size
        assert len(cast("bytearray", frame.obj)) - size < STEP_BYTES
        subject.give(frame)
        assert subject.take(1).obj is not frame.obj


def test_short_frames_and_those_of_others_are_let_go() -> None:
    subject = BufferPool()
    for frame in (subject.take(100), b"x" * SHORT_BYTES, memoryview(b"x" * SHORT_BYTES)):
        subject.give(frame)
    assert subject.kept_bytes == 0


def test_no_more_is_kept_than_is_allowed() -> None:
    subject = BufferPool()
    frames = [subject.take(FRAME_MAX) for _ in range(bufferpool.KEPT_BYTES // FRAME_MAX + 5)]
    for frame in frames:
        subject.give(frame)
    assert bufferpool.KEPT_BYTES - 2 * FRAME_MAX < subject.kept_bytes <= bufferpool.KEPT_BYTES
    for _ in frames:
        subject.take(FRAME_MAX)
    assert subject.kept_bytes == 0
