"""Does in the healthy system what the client will do after a panic, so that everything it loads is loaded.

Runs inside the probe's bare interpreter. Imports at the top of modules are not all: argparse loads message catalogues
when it parses, codecs are loaded when a file is opened, OpenSSL's parts at the first handshake. A damaged bundle shows
itself here too. Sends nothing: the collector's address is a port of the loopback on which nobody listens.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from contextlib import suppress

from netdump.client import command
from netdump.client.arguments import make_parser
from netdump.client.config import load_config
from netdump.client.credentials import client_context
from netdump.client.image import open_image
from netdump.codec import Compressor
from netdump.errors import UnreachableError

PAGES = 8
PAGE_BYTES = 4096
PATIENCE = "1"  # seconds, the least that the client takes


def rehearse(bundle: str) -> None:
    """Go through the client with this bundle. Raises what the client raises for it, and RuntimeError."""
    make_parser().format_help()  # somebody may ask for it in the shell of the image
    context = client_context(load_config(bundle, {}, {}).credentials, bundle)
    _greet(context)
    core = os.memfd_create("netdump-rehearsal")
    try:
        os.write(core, tiny_core())
        path = f"/proc/self/fd/{core}"
        _stream(path)
        _send(path, bundle)
    finally:
        os.close(core)


def tiny_core() -> bytes:
    """An ELF core of some pages, as small as the client takes one."""
    first = PAGE_BYTES
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    note = struct.pack("<IIQQQQQQ", 4, 0, 64 + 2 * 56, 0, 0, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, first, 0, 0, PAGES * PAGE_BYTES, PAGES * PAGE_BYTES, 0)
    pages = b"".join(bytes((number,)) * PAGE_BYTES for number in range(PAGES))
    return (header + note + load).ljust(first, b"\0") + pages


def _greet(context: ssl.SSLContext) -> None:
    """The first message of a handshake."""
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=b"collector")
    with suppress(ssl.SSLWantReadError):  # nobody answers here
        tls.do_handshake()


def _stream(path: str) -> None:
    image = open_image(path, 0)
    stream = image.stream(0, Compressor(1), None)
    while stream.take() is not None:
        pass
    stream.close()
    image.close()


def _send(path: str, bundle: str) -> None:
    """The whole command, to an address where it finds nobody."""
    quiet, console = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # bound, but not listening: every connection is refused
    words = {"collectors": f"localhost:{nobody.getsockname()[1]}", "patience": PATIENCE, "threads": "1", "kmsg": "0"}
    before = vars(command)["read_words"]
    vars(command)["read_words"] = lambda *_: words
    os.dup2(quiet, 2)
    try:
        # Written so that argparse has to read it, with all that it loads to do so (netdump.client.arguments).
        status = command.main([path, "--config", bundle, "--deadline=30"])
    finally:
        vars(command)["read_words"] = before
        os.dup2(console, 2)
        os.close(quiet)
        os.close(console)
        nobody.close()
    if status != UnreachableError.exit_status:
        raise RuntimeError(f"its rehearsal ended with status {status}")
