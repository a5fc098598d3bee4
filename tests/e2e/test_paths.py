"""Nothing that a peer says becomes a path: all that a collector under strace(1) writes to lies in its folder.

Peers say it in dump ids, texts, headlines, certificates, tokens, and in the addresses of requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from netdump import wire
from netdump.pki import Role
from netdump.pki.certificates import (
    Issuer,
    build_client,
    certificate_pem,
    key_pem,
    load_certificate,
    load_key,
    new_key,
)
from tests.e2e import hostile
from tests.e2e.crowd import ENDS, IMAGE_BYTES, Crowd, data_chunks
from tests.e2e.rig import Collector, wait_until
from tests.server.rig import issue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

# All calls that make, replace or remove a name, or open what a name stands for.
CALLS: Final = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "unlink,unlinkat,rmdir,truncate,chmod,fchmodat,chown,lchown,fchownat,utimensat"
)
OPENING: Final = ("open", "openat", "openat2", "creat")
CALL: Final = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
# A call during which another thread makes one stands in two lines.
BEGUN: Final = re.compile(r"(\d+) +(.*?) *<unfinished \.\.\.>")
RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
# A descriptor with its path, as -y shows it, or a text: what stands before the first text is the folder it is in.
ARGUMENT: Final = re.compile(r'(?:AT_FDCWD|\d+)<([^>]*)>|"((?:[^"\\]|\\.)*)"')
HARMLESS: Final = {"/dev/null"}

EVIL: Final = ["../../../../evil", "/tmp/evil/../evil", "..", "evil\0evil", "evil\n", "e" * 200, "%2e%2e%2fevil"]
IDS: Final = [bytes(16), b"\xff" * 16, b"../../../../evil", b"/tmp/evil/../evi", b"..\0/..\0/..\0/evil"]
TARGETS: Final = [*(name.replace("\0", "%00").replace("\n", "%0a") for name in EVIL), "..%2f" * 8 + "etc%2fpasswd"]
SAID: Final = wire.HeadlineDocument(log=b"../../evil\0", machine="../../../../evil", nodename="/tmp/evil/../evil")


def whole(lines: Iterable[str]) -> Iterator[str]:
    """From what strace wrote: each call in one line."""
    begun: dict[str, str] = {}  # of each thread, the call that it is in
    for line in lines:
        if found := BEGUN.fullmatch(line):
            begun[found[1]] = line[: found.end(2)]
        elif found := RESUMED.fullmatch(line):
            yield begun.pop(found[1], "") + found[2]
        else:
            yield line


def outside(lines: Iterable[str], folder: Path) -> tuple[set[str], set[str]]:
    """From what strace wrote: the paths that were written to in the folder, and those elsewhere."""
    inside: set[str] = set()
    elsewhere: set[str] = set()
    for line in whole(lines):
        found = CALL.match(line)
        if found is None:
            continue
        call, arguments, result = found.groups()
        if int(result) < 0 or (call in OPENING and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", arguments)):
            continue
        at = "/"
        for descriptor, text in ARGUMENT.findall(arguments):
            if descriptor:
                at = descriptor
                continue
            path = os.path.normpath(os.path.join(at, text))
            (inside if Path(path).is_relative_to(folder) else elsewhere).add(path)
    return inside, elsewhere - HARMLESS


def test_what_strace_says_is_understood() -> None:
    lines = [
        '7 openat(AT_FDCWD</srv>, "/c/dumps/a", O_WRONLY|O_CREAT, 0600) = 5</c/dumps/a>',
        '7 openat(AT_FDCWD</srv>, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 5</etc/hosts>',
        '7 openat(6</c/dumps>, "../../evil", O_RDWR) = 5</evil>',
        '7 openat(6</c/dumps>, "../../failed", O_RDWR) = -1 ENOENT (No such file or directory)',
        'renameat2(6</c/dumps>, "x", 6</c>, "../y", 0) = 0',
        '7 mkdirat(6</c/dumps>, "b", 0700) = 0',
        '7 openat(AT_FDCWD</srv>, "/dev/null", O_RDWR) = 7</dev/null>',
        '7 openat(AT_FDCWD</srv>, "/etc/evil", O_WRONLY|O_CREAT, 0600 <unfinished ...>',
        '81 mkdirat(6</c/dumps>, "c", 0700 <unfinished ...>',
        "7 <... openat resumed>)        = 5</etc/evil>",
        "81 <... mkdirat resumed>)      = 0",
        '7 openat(AT_FDCWD</srv>, "/etc/shadow", O_RDWR <unfinished ...>',
        "7 <... openat resumed>)        = -1 EACCES (Permission denied)",
    ]
    written = {"/c/dumps/a", "/c/dumps/x", "/c/dumps/b", "/c/dumps/c"}
    assert outside(lines, Path("/c")) == (written, {"/evil", "/y", "/etc/evil"})


def forged(folder: Path, name: str, number: int) -> Path:
    """A certificate of the collector's own authority for a host of a name that it never gives."""
    pki = folder / "pki"
    authority = load_certificate((pki / "ca.crt").read_bytes(), "it")
    issuer = Issuer(authority, load_key((pki / "ca.key").read_bytes(), "it"))
    key = new_key()
    made = build_client(Role.HOST, name, key.public_key(), issuer, datetime.now(UTC))
    path = folder.parent / f"forged-{number}.pem"
    path.write_text(certificate_pem(made) + key_pem(key))
    return path


async def all_that_peers_say(crowd: Crowd, operator: Path) -> None:
    """Once each: dumps that are taken and stored, and whatever is refused."""
    for number, dump_id in enumerate(IDS):
        async with crowd.line(f"host-{number}") as line:
            line.say(wire.Hello(dump_id, IMAGE_BYTES, 4096, 0, "../../evil"))
            answer = await line.hear()
            assert isinstance(answer, wire.Resume), answer
            raw = wire.pack_document(SAID)
            line.say(wire.Headline(wire.CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw))
            line.say(next(data_chunks(answer.offset, Random(number))))
            while not isinstance(await line.hear(), wire.Ack):
                pass
    for number, name in enumerate(EVIL):
        with suppress(*ENDS):
            async with crowd.line(name, chain=forged(crowd.folder, name, number)) as line:
                line.say(wire.Hello(IDS[0], IMAGE_BYTES, 4096, 0))
                assert isinstance(await line.hear(), wire.Error | wire.Decline), name
    with suppress(*ENDS):
        await hostile.strange_names(crowd, "strange")
    for target in TARGETS:
        for method in ("GET", "DELETE"):
            await ask(crowd, method, f"/v1/dumps/{target}", "", operator)
        body = json.dumps({"token": target, "csr": target})
        await ask(crowd, "POST", "/v1/enroll", body, None)


async def ask(crowd: Crowd, method: str, target: str, body: str, papers: Path | None) -> None:
    """Make one request; it must fail."""
    async with crowd.line(None if papers is None else "olga", api=True, chain=papers) as line:
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        line.writer.write((head + body).encode())
        answer = await line.reader.read()
        assert re.match(rb"HTTP/1.1 4\d\d ", answer), (method, target, answer[:200])


def test_whatever_a_peer_says_is_no_path(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "collector")
    seen = tmp_path / "calls"
    # -D: the collector is the child that is started and stopped, strace its grandchild.
    tracer = ["strace", "-D", "-f", "-y", "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(seen)]
    # Bytecode and temporary files are the interpreter's and the libraries'; none of a peer's words goes into them.
    collector.start([*tracer, "env", "PYTHONDONTWRITEBYTECODE=1"])
    try:
        crowd = Crowd(collector.folder, collector.ingest, collector.api)
        asyncio.run(all_that_peers_say(crowd, issue(collector.folder, Role.OPERATOR, "olga").file))
    finally:
        assert collector.stop() == 0
    wait_until(lambda: "+++ exited with 0 +++" in seen.read_text().rstrip().rpartition("\n")[2], "the end of strace")
    inside, elsewhere = outside(seen.read_text().splitlines(), collector.folder)
    assert not elsewhere
    kept = {path.removeprefix(f"{collector.folder}/dumps/").partition("/")[0] for path in inside if "/dumps/" in path}
    assert kept >= {dump_id.hex() for dump_id in IDS}  # strace has seen what there was to see
    assert not list(collector.folder.rglob("*evil*"))
