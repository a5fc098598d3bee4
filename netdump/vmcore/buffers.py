"""The buffers that planned data lies in, used again and again.

Owns who may write to a buffer, and when. Must not know what is in one.

A buffer belongs to the planner from take() on, to whoever got the chunk from the moment it is handed over, and to
nobody from release() on. Reading a chunk's data after its release reads the data of a later chunk.
"""

from __future__ import annotations


class BufferPool:
    """At most limit buffers of the same size. One thread may take() while others release()."""

    __slots__ = ("_free", "_limit", "_made", "buffer_bytes")

    def __init__(self, buffer_bytes: int, limit: int) -> None:
        """buffer_bytes: of each buffer. limit: chunks that may be held at a time, plus one that is being filled."""
        self.buffer_bytes = buffer_bytes
        self._limit = limit
        self._made = 0
        self._free: list[bytearray] = []  # append and pop are atomic

    def take(self) -> bytearray:
        """A buffer with any contents. It is an error of the program to hold more than limit at a time."""
        if self._free:
            return self._free.pop()
        assert self._made < self._limit, f"{self._limit} buffers are out; release a chunk before planning the next"
        self._made += 1
        return bytearray(self.buffer_bytes)

    def release(self, data: memoryview) -> None:
        """Give back the buffer under a chunk's data, once for each chunk; a chunk without data has none."""
        buffer = data.obj
        data.release()
        if isinstance(buffer, bytearray):
            assert len(buffer) == self.buffer_bytes, "a buffer of another pool"
            self._free.append(buffer)
