"""The least that any program takes which sends a core as netdump does: two bare loops, and nothing around them.

Run as a program of its own, pinned: `python -m bench.floor CORE CERTIFICATE CPUS TARGET`. One end reads, leaves zero
pages out, hashes and encrypts; the other one, on the CPUs named, decrypts, hashes, writes and syncs. No protocol, no
credit, no resuming, one thread each. All that takes long is in C (kernel, OpenSSL), so a program in C takes as long.
Prints the bytes that were sent. Only for cores without runs that stand there twice.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import sys
from typing import Final

from bench.parts import PAGE, TIMEOUT, WINDOW, plain_context

BLOCK: Final = WINDOW >> 2  # read and looked through at a time, as in netdump.vmcore.plan

_ZEROS: Final = memoryview(bytes(BLOCK))


def send(core: str, connection: ssl.SSLSocket) -> int:
    """Send the pages of a file that are not zero, and wait for the word that they are durable. Returns their bytes."""
    buffer = bytearray(WINDOW + BLOCK)
    view, zero = memoryview(buffer), _ZEROS[:PAGE]
    used = position = total = 0
    with open(core, "rb", buffering=0) as file:
        while count := os.preadv(file.fileno(), [view[used : used + BLOCK]], position):
            position += count
            flags = bytes([buffer.startswith(zero, at) for at in range(used, used + count, PAGE)])
            used = _close_up(view, used, count, flags)
            while used >= WINDOW:
                total += _ship(connection, view[:WINDOW])
                view[: used - WINDOW] = view[WINDOW:used]
                used -= WINDOW
    total += _ship(connection, view[:used])
    connection.unwrap()  # waits until the other end says good-bye too
    return total


def _close_up(view: memoryview, at: int, count: int, zero: bytes) -> int:
    """Move the pages of a block that are not zero to its front. Returns where they end."""
    first, used = 0, at
    while (first := zero.find(0, first)) >= 0:
        after = zero.find(1, first)
        end = min(count, (after if after >= 0 else len(zero)) * PAGE)
        begin = first * PAGE
        if used != at + begin:
            view[used : used + end - begin] = view[at + begin : at + end]
        used += end - begin
        if after < 0:
            break
        first = after
    return used


def _ship(connection: ssl.SSLSocket, data: memoryview) -> int:
    hashlib.sha256(data).digest()
    connection.sendall(data)
    return len(data)


def store(connection: ssl.SSLSocket, target: str) -> None:
    """The other end: everything into a new file, hashed, durable."""
    view, filled, position = memoryview(bytearray(WINDOW)), 0, 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    while count := connection.recv_into(view[filled:]):
        filled += count
        if filled == WINDOW:
            position += _keep(descriptor, view, position)
            filled = 0
    _keep(descriptor, view[:filled], position)
    os.fdatasync(descriptor)
    os.close(descriptor)


def _keep(descriptor: int, data: memoryview, position: int) -> int:
    hashlib.sha256(data).digest()
    assert os.pwrite(descriptor, data, position) == len(data)
    return len(data)


def main(arguments: list[str]) -> None:
    """Be both ends."""
    core, certificate, cpus, target = arguments
    listener = socket.create_server(("127.0.0.1", 0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the other end's CPU time is not taken for this one's
    if not os.fork():
        status = 1
        try:
            os.sched_setaffinity(0, set(map(int, cpus.split(","))))
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(certificate)
            with server.wrap_socket(listener.accept()[0], server_side=True) as peer:
                store(peer, target)
                peer.unwrap()
            status = 0
        finally:
            os._exit(status)
    near = socket.create_connection(listener.getsockname(), TIMEOUT)
    with plain_context().wrap_socket(near) as connection:
        print(send(core, connection))


if __name__ == "__main__":
    main(sys.argv[1:])
