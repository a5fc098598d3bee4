"""The one-core limit: what sending a core cannot do without, each part measured by itself on one CPU.

Run as a program of its own, pinned: `python -m bench.parts CORE CERTIFICATE`. Prints a JSON object of seconds. The
other end of the TLS connection runs on the CPUs that are left. Hashed, compressed and sent is what netdump sends: no
zero pages, and none twice. Whether compressing pays on this link is decided as the sum is smaller, so that the limit is
the lowest there is.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import socket
import ssl
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from netdump.client.image import open_image
from netdump.codec import Compressor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WINDOW: Final = 1 << 20
PAGE: Final = 4096
SAMPLE_BYTES: Final = 512 << 20  # of a larger core's data; the rest is inferred
LEVEL: Final = 1
TIMEOUT: Final = 60

_ZERO: Final = bytes(PAGE)
_ZEROS: Final = bytes(WINDOW)


def measure(path: str, certificate: str, far_cpus: set[int]) -> dict[str, float]:
    """Seconds of each part for one core."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as core:
        windows = range(0, len(core), WINDOW)
        buffer = bytearray(WINDOW)
        with memoryview(core) as view:
            seconds = {"read": _timed(partial(_copy_all, view, buffer))}
        whole = (core[at : at + WINDOW] for at in windows)
        seconds["zero_test"] = sum(_timed(partial(_zero_pages, window)) for window in whole)
    pieces, share = _data(path)
    rest = {"sha256": _timed(lambda: [hashlib.sha256(piece).digest() for piece in pieces][:0])}
    compressed: list[bytes] = []
    compressor = Compressor(LEVEL)
    zstd = _timed(lambda: compressed.extend(map(compressor.compress, pieces)))
    tls, tls_stored = (_sent(data, certificate, far_cpus) for data in (compressed, pieces))
    rest |= {"zstd": zstd, "tls": tls} if zstd + tls < tls_stored else {"zstd": 0.0, "tls": tls_stored}
    return seconds | {part: took / share for part, took in rest.items()}


def _data(path: str) -> tuple[list[bytes], float]:
    """What netdump sends of a core, chunk by chunk, up to SAMPLE_BYTES; and which share of the core that is."""
    image = open_image(path, level=1)
    pieces, total, end = [], 0, image.size
    stream = image.stream(0, None, None)
    while total < SAMPLE_BYTES and (prepared := stream.take()) is not None:
        pieces.append(bytes(prepared.chunk.data))
        total += len(pieces[-1])
        end = prepared.chunk.offset + prepared.chunk.length
    stream.close()
    image.close()
    return [piece for piece in pieces if piece], end / image.size


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _copy_all(view: memoryview, buffer: bytearray) -> None:
    for at in range(0, len(view), WINDOW):
        window = view[at : at + WINDOW]
        buffer[: len(window)] = window


def _zero_pages(window: bytes) -> list[bool]:
    if window == _ZEROS:
        return [True]
    return [window.startswith(_ZERO, at) for at in range(0, len(window), PAGE)]


def _sent(pieces: Sequence[bytes], certificate: str, far_cpus: set[int]) -> float:
    with _connection(certificate, far_cpus) as connection:
        return _timed(partial(_send_all, connection, pieces))


def _send_all(connection: ssl.SSLSocket, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        connection.sendall(piece)


@contextmanager
def _connection(certificate: str, far_cpus: set[int]) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to a process that reads and drops everything."""
    # A fork while the data is in memory: the child only reads, and what it does not touch is not copied.
    listener = socket.create_server(("127.0.0.1", 0))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    child = os.fork()
    if not child:
        try:
            _drain(listener, server, far_cpus)
        finally:
            os._exit(0)
    try:
        with plain_context().wrap_socket(socket.create_connection(listener.getsockname(), TIMEOUT)) as connection:
            yield connection
            with suppress(OSError):  # the other end goes without a word
                connection.unwrap()
    finally:
        listener.close()
        os.waitpid(child, 0)


def plain_context() -> ssl.SSLContext:
    """A client's, who talks to a process of his own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _drain(listener: socket.socket, context: ssl.SSLContext, cpus: set[int]) -> None:
    os.sched_setaffinity(0, cpus)
    with context.wrap_socket(listener.accept()[0], server_side=True) as peer:
        buffer = bytearray(WINDOW)
        while peer.recv_into(buffer):
            pass


def main(arguments: list[str]) -> None:
    """Measure on the first CPU and print."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first})
    path, certificate = arguments
    print(json.dumps(measure(path, certificate, set(others) or {first})))


if __name__ == "__main__":
    main(sys.argv[1:])
