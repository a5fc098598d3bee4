"""Peers that mean harm, one function a kind: each makes one connection and does its worst until it is sent away.

python -m tests.e2e.hostile FOLDER INGEST API COUNT SECONDS    so many of them at a collector; prints who was dropped
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import ssl
import sys
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from netdump import wire
from netdump.codec import Compressor
from netdump.pages import PageState, Run
from netdump.pki.certificates import certificate_pem, key_pem, new_key
from tests.e2e.crowd import IMAGE_BYTES, Crowd, data_chunks

if TYPE_CHECKING:
    from tests.e2e.crowd import Line, Visit

TRICKLE_S: Final = 0.3
CHAIN: Final = 100
ZSTD_MAGIC: Final = bytes.fromhex("28b52ffd")
MIB: Final = 1 << 20


async def half_open(crowd: Crowd, name: str) -> None:
    """TCP, and not a byte of TLS."""
    async with crowd.line(None, tls=False) as line:
        await line.gone()


async def slow_handshake(crowd: Crowd, name: str) -> None:
    """TLS, a byte at a time."""
    hello, nothing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(nothing, hello, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    async with crowd.line(None, tls=False) as line:
        await _trickle(line, hello.read())


async def slow_hello(crowd: Crowd, name: str) -> None:
    """Enrolled, and its HELLO takes for ever."""
    async with crowd.line(name) as line:
        await _trickle(line, wire.pack(wire.Hello(bytes(16), IMAGE_BYTES, 4096, 0)))


async def garbage(crowd: Crowd, name: str) -> None:
    """Bytes of no protocol."""
    async with crowd.line(name) as line:
        line.writer.write(Random(name).randbytes(65_536))
        await line.gone()


async def forged_lengths(crowd: Crowd, name: str) -> None:
    """A frame of 2 GiB, then a field of 4 GiB, then an image of 2^63 bytes: none of them is waited for."""
    frames = [
        b"\x80\x01\0\0\x80\0\0\0",
        b"\x80\x01\0\0\0\0\0\x08\x80\x01\xff\xff\xff\xff\0\0",
        wire.pack(wire.Hello(bytes(16), IMAGE_BYTES, 4096, 0)).replace(
            IMAGE_BYTES.to_bytes(8, "big"), (1 << 63).to_bytes(8, "big")
        ),
    ]
    for frame in frames:
        async with crowd.line(name) as line:
            line.writer.write(frame)
            await line.gone()


async def strange_names(crowd: Crowd, name: str) -> None:
    """Control characters and NUL in a text, one of 64 KiB, and ../, which is a text like others."""
    good = wire.pack(wire.Hello(bytes(16), IMAGE_BYTES, 4096, 0, "A" * 24))
    named = [good.replace(b"A" * 24, text) for text in (b"\x1b]0;owned\x07xxxxxxxxxxxxxx", b"\0" * 24, b"../" * 8)]
    long = b"\x05" + (65_530).to_bytes(4, "big") + b"A" * 65_530
    named.insert(0, b"\x80\x01\0\0" + (len(long) + 1).to_bytes(4, "big") + b"\0" + long)
    for frame in named:
        async with crowd.line(name) as line:
            line.writer.write(frame)
            await line.gone()


async def keepalives(crowd: Crowd, name: str) -> None:
    """A seat for nothing, and as much work as it can make of nothing."""
    async with crowd.line(name) as line:
        await line.resumed(name)
        while not line.reader.at_eof():
            line.writer.write(wire.pack(wire.Keepalive()) * 2000)
            await _drain(line)


async def one_byte_records(crowd: Crowd, name: str) -> None:
    """Chunks, every byte in a TLS record of its own."""
    async with crowd.line(name) as line:
        answer = await line.resumed(name)
        for chunk in data_chunks(answer.offset, Random(name), 2000):
            for byte in wire.pack(chunk):
                line.writer.write(bytes([byte]))
                if line.writer.transport.is_closing():
                    return
            await _drain(line)


async def bombs(crowd: Crowd, name: str) -> None:
    """Frames that claim 64 GiB, a window of 2 GiB, a dictionary, and a MiB of zeros that is really there."""
    zeros = Compressor(19).compress(bytes(MIB))
    size = MIB.to_bytes(4, "little").hex()  # that which is due, so that it is the claim which is refused
    claims = ["e0" + (64 << 30).to_bytes(8, "little").hex() + "010000", f"80a8{size}010000", f"a301000000{size}010000"]
    for frame in [*(ZSTD_MAGIC + bytes.fromhex(claim) for claim in claims), zeros, zeros + zeros]:
        async with crowd.line(name) as line:
            answer = await line.resumed(name)
            table = wire.pack_runs([Run(PageState.DATA, MIB)])
            line.say(wire.Chunk(answer.offset, MIB, table, bytes(32), wire.CodecId.ZSTD, frame))
            await line.gone()


async def endless_headline(crowd: Crowd, name: str) -> None:
    """A headline of the largest size, but for its last bytes, which take for ever."""
    async with crowd.line(name) as line:
        answer = await line.offered(name)
        if answer.headline:
            return
        body = bytes(wire.HEADLINE_RAW_MAX)
        frame = memoryview(wire.pack(wire.Headline(wire.CodecId.STORED, len(body), bytes(32), body)))
        for at in range(0, len(frame) - 100, MIB):
            line.writer.write(frame[at : min(at + MIB, len(frame) - 100)])
            await _drain(line)
        await _trickle(line, bytes(99))


async def run_tables(crowd: Crowd, name: str) -> None:
    """Chunks of nothing but runs, which the collector looks through on its loop, as fast as credit allows."""
    async with crowd.line(name) as line:
        answer = await line.resumed(name)
        runs = [Run(PageState.ZERO, 1), Run(PageState.LOST, 1)] * (wire.CHUNK_RUNS_MAX // 2)
        table, offset = wire.pack_runs(runs), answer.offset
        while True:
            while not line.core.may_send(0):
                await line.hear()
            digest = wire.chunk_digest(offset, len(runs), table, b"")
            line.say(wire.Chunk(offset, len(runs), table, digest, wire.CodecId.STORED, b""))
            offset += len(runs)
            await line.writer.drain()


async def deaf_flood(crowd: Crowd, name: str) -> None:
    """Chunks beyond all credit; it reads nothing."""
    async with crowd.line(name) as line:
        answer = await line.resumed(name)
        for chunk in data_chunks(answer.offset, Random(name)):
            line.writer.write(wire.pack(chunk))
            await _drain(line)


async def thief(crowd: Crowd, name: str) -> None:
    """Another's dump."""
    async with crowd.line(name) as line:
        await line.resumed("good 0")


async def many_dumps(crowd: Crowd, name: str) -> None:
    """Dump after dump, each with a headline, as fast as they are taken."""
    for number in itertools.count():
        async with crowd.line(name) as line:
            await line.resumed(f"{name} dump {number}")


async def many_connections(crowd: Crowd, name: str) -> None:
    """Connection after connection, each through TLS, and not a word over any of them."""
    sent_away = False
    while not sent_away:
        async with crowd.line(name) as line:
            gone = asyncio.create_task(line.gone())
            await asyncio.wait({gone}, timeout=TRICKLE_S / 10)
            sent_away = gone.done()
            gone.cancel()


async def long_chain(crowd: Crowd, name: str) -> None:
    """A hundred certificates: behind one that is good, and each the issuer of the one before, up to none that is."""
    async with crowd.line(name, chain=_chain_of(crowd, name)) as line:
        await line.gone()
    async with crowd.line(name, chain=_chain_to_nowhere(crowd)) as line:
        await line.gone()


async def api_trickle(crowd: Crowd, name: str) -> None:
    """A request that takes for ever."""
    async with crowd.line(None, api=True) as line:
        await _trickle(line, b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100)


async def api_flood(crowd: Crowd, name: str) -> None:
    """What strangers may ask for, as fast as it comes."""
    async with crowd.line(None, api=True) as line:
        while not line.reader.at_eof():
            line.writer.write(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n")
            await line.writer.drain()
            await line.reader.readuntil(b"-----END CERTIFICATE-----\n")


async def guesses(crowd: Crowd, name: str) -> None:
    """Tokens, by luck."""
    async with crowd.line(None, api=True) as line:
        for number in itertools.count():
            secret = base64.urlsafe_b64encode(number.to_bytes(16, "big")).decode().rstrip("=")
            body = json.dumps({"token": secret, "csr": "x"}).encode()
            line.writer.write(b"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await line.writer.drain()
            await line.reader.readuntil(b"}}")


KINDS: Final[dict[str, Visit]] = {
    visit.__name__.replace("_", "-"): visit
    for visit in (
        half_open, slow_handshake, slow_hello, garbage, forged_lengths, strange_names, keepalives, one_byte_records,
        bombs, endless_headline, run_tables, deaf_flood, thief, many_dumps, many_connections, long_chain, api_trickle,
        api_flood, guesses,
    )
}  # fmt: skip


async def _trickle(line: Line, data: bytes) -> None:
    """A byte every now and then, for as long as the collector bears it."""
    gone = asyncio.create_task(line.gone())
    for byte in data:
        line.writer.write(bytes([byte]))
        await asyncio.wait({gone}, timeout=TRICKLE_S)
        if gone.done():
            break
    await gone


async def _drain(line: Line) -> None:
    await line.writer.drain()
    await asyncio.sleep(0)
    if line.writer.transport.is_closing():
        raise ConnectionResetError


@cache
def _chain_of(crowd: Crowd, name: str) -> Path:
    """The certificate of a host, and a hundred more behind it."""
    text = crowd.papers(name).file.read_text()
    certificate, _, key = text.partition("-----BEGIN PRIVATE")
    authority = (crowd.folder / "pki" / "ca.crt").read_text()
    path = crowd.folder.parent / f"{name}-chain.pem"
    path.write_text(certificate + authority * CHAIN + "-----BEGIN PRIVATE" + key)
    return path


@cache
def _chain_to_nowhere(crowd: Crowd) -> Path:
    """A hundred certificates of authorities that nobody knows, and the key of the first."""
    keys = [new_key() for _ in range(CHAIN)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {number}")]) for number in range(CHAIN + 1)]
    text = ""
    for number, key in enumerate(keys):
        issuer = keys[min(number + 1, CHAIN - 1)]
        builder = x509.CertificateBuilder().subject_name(names[number]).issuer_name(names[number + 1])
        builder = builder.public_key(key.public_key()).serial_number(number + 1)
        builder = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2050, 1, 1))  # noqa: DTZ001
        builder = builder.add_extension(x509.BasicConstraints(ca=number > 0, path_length=None), critical=True)
        text += certificate_pem(builder.sign(issuer, SHA256()))
    path = crowd.folder.parent / "nowhere.pem"
    path.write_text(text + key_pem(keys[0]))
    return path


def main(folder: str, ingest: str, api: str, count: str, seconds: str) -> None:
    """As a process of its own: what it costs to attack must not be taken for what it costs to be attacked."""
    crowd = Crowd(Path(folder), ingest, api, first=30_000)
    report = asyncio.run(crowd.attack(KINDS, int(count), float(seconds)))
    print(json.dumps(report.dropped))


if __name__ == "__main__":
    main(*sys.argv[1:])
