from __future__ import annotations

import pytest

from netdump.vmcore.buffers import BufferPool


def test_buffers_are_used_again() -> None:
    pool = BufferPool(64, 2)
    first, second = pool.take(), pool.take()
    assert len(first) == len(second) == 64
    pool.release(memoryview(first)[:10])
    assert pool.take() is first


def test_holding_too_many_is_an_error_of_the_program() -> None:
    pool = BufferPool(64, 1)
    pool.take()
    with pytest.raises(AssertionError, match="release a chunk"):
        pool.take()


def test_released_data_cannot_be_read() -> None:
    pool = BufferPool(64, 1)
    data = memoryview(pool.take())
    pool.release(data)
    with pytest.raises(ValueError, match="released"):
        data[0]


def test_chunks_without_data_have_no_buffer() -> None:
    pool = BufferPool(64, 1)
    pool.release(memoryview(b""))
    pool.take()
    with pytest.raises(AssertionError):
        pool.take()


def test_buffers_of_others_are_refused() -> None:
    with pytest.raises(AssertionError, match="another pool"):
        BufferPool(64, 1).release(memoryview(bytearray(65)))
