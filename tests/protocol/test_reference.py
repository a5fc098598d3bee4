"""Runs the reference decoder: as a command on every vector, and on dump folders built here from the prose, and on junk.

The builder below is a third reading of store.md; it shares no code with the decoder and none with netdump.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import struct
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"
REFERENCE = PROTOCOL / "reference"
VECTORS = sorted((PROTOCOL / "vectors").rglob("*.vector"))
DUMP_ID = bytes(range(16))
PAGE = 4096
DATA, ZERO, ALIAS, EXCLUDED, LOST = range(5)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@cache
def program() -> Any:
    """The decoder's main module. It stands alone, so its own modules have names without a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REFERENCE))
        return importlib.import_module("decode")


def decode(*arguments: str | Path) -> Done:
    """What the command says; without a process for each, which took longer than all that it had to do."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = program().main([str(word) for word in arguments])
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """What the decoder says of each vector, by path."""
    command = [sys.executable, *map(str, (REFERENCE / "decode.py", "vector", *VECTORS))]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return {line.partition(" ")[2].partition(": ")[0]: line for line in lines}


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_vector(path: Path, verdicts: dict[str, str]) -> None:
    assert verdicts.get(str(path)) == f"ok {path}"


def test_vectors_exist() -> None:
    assert len(VECTORS) > 100


def test_a_vector_that_is_wrong_fails(tmp_path: Path) -> None:
    path = next(path for path in VECTORS if "expect: bad-frame\n" in path.read_text())
    wrong = tmp_path / "wrong.vector"
    wrong.write_text(path.read_text().replace("expect: bad-frame\n", "expect: ok\n"))
    result = decode("vector", wrong)
    assert result.returncode == 1
    assert result.stdout.startswith(f"failed {wrong}: bad-frame")


def test_the_reference_imports_nothing_of_netdump() -> None:
    own = {path.stem for path in REFERENCE.glob("*.py")}
    allowed = own | set(sys.stdlib_module_names) | {"zstandard"}
    for path in REFERENCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= allowed, path


NUMBERS = """
import json, chunks, connection, digests, frames, segments
print(json.dumps({
    "message": {kind.name: {"type": number, "sender": kind.sender, "payload_max": kind.payload_max}
                for number, kind in frames.MESSAGES.items()},
    "field": {kind.name: {field.name: {"id": number, "kind": field.kind, "required": field.required,
                                       "critical": field.critical}
                          for number, field in kind.fields.items()} for kind in frames.MESSAGES.values()},
    "headline": {field.name: {"id": number, "kind": field.kind, "critical": field.critical}
                 for number, field in frames.HEADLINE_DOCUMENT.items()},
    "frame": [frames.HEADER_BYTES, frames.CRITICAL, frames.FIELD_HEADER_BYTES, frames.PAYLOAD_MAX,
              frames.FIELDS_MAX, frames.TEXT_MAX],
    "limits": [frames.IMAGE_MAX, frames.HELLO.fields[3].low, frames.HELLO.fields[3].high, frames.CHUNK.fields[2].high,
               chunks.DATA_MAX, chunks.RUNS_MAX, connection.COST_FLOOR, chunks.HEADLINE_MAX, chunks.WINDOW_MAX,
               frames.RECEIPT.fields[2].high, frames.ACK.fields[2].low, frames.RESUME.fields[5].high,
               frames.DEFER.fields[1].low, frames.DEFER.fields[1].high, frames.RESUME.fields[6].low,
               frames.RESUME.fields[6].high, frames.RESUME.fields[7].low, frames.RESUME.fields[7].high,
               connection.OPENING_SECONDS],
    "page_state": list(chunks.STATES),
    "exclude_class": list(chunks.CLASSES),
    "codec": {"stored": chunks.STORED, "zstd": chunks.ZSTD},
    "error": {name: code for code, name in frames.ERRORS.items()},
    "decline": {name: {"code": code} for code, name in frames.DECLINES.items()},
    "segment": [segments.MAGIC.decode(), segments.END_MAGIC.decode(), segments.SEGMENT_HEADER_BYTES,
                segments.ENTRY_BYTES, segments.TRAILER_BYTES, segments.CHUNKS_MAX],
    "domain": [one.decode() for one in (digests.CHUNK, digests.START, digests.LINK, digests.ROOT, digests.ID)],
}))
"""


def test_numbers_taken_from_the_prose_are_those_of_the_registry() -> None:
    run = subprocess.run([sys.executable, "-c", NUMBERS], cwd=REFERENCE, capture_output=True, text=True, check=True)
    read: dict[str, Any] = json.loads(run.stdout)
    registry = tomllib.loads((PROTOCOL / "registry.toml").read_text())
    for name in ("message", "field", "headline", "codec", "decline"):
        assert read[name] == registry[name], name
    for name in ("frame", "limits", "segment"):
        assert read[name] == list(registry[name].values()), name
    for name in ("page_state", "exclude_class"):
        assert dict(zip(read[name], range(20), strict=False)) == registry[name], name
    assert read["error"] == {name: entry["code"] for name, entry in registry["error"].items()}
    domains = registry["domain"]
    assert read["domain"] == [domains[name] for name in ("chunk", "start", "link", "root", "id")]


class Piece(NamedTuple):
    """A chunk to build: its runs as (state, class, bytes, source) and its raw data."""

    runs: tuple[tuple[int, int, int, int], ...]
    raw: bytes = b""

    @property
    def length(self) -> int:
        return sum(run[2] for run in self.runs)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _frame(offset: int, piece: Piece) -> tuple[bytes, bytes]:
    """Give the CHUNK frame of piece, stored, and its digest."""
    table = b"".join(
        struct.pack(">BBHI", state, reason, 0, size) + (struct.pack(">Q", source) if state == ALIAS else b"")
        for state, reason, size, source in piece.runs
    )
    sizes = struct.pack(">QII", offset, piece.length, len(table))
    digest = _digest(b"netdump/1 chunk\n", sizes, table, piece.raw)
    values = (struct.pack(">Q", offset), struct.pack(">I", piece.length), table, digest, b"\0", piece.raw)
    payload = b"".join(
        struct.pack(">HI", 0x8000 | number, len(value)) + value for number, value in enumerate(values, 1)
    )
    return struct.pack(">HHI", 0x8006, 0, len(payload)) + payload, digest


class Place(NamedTuple):
    offset: int
    first: int
    chain: bytes


def begin(image_bytes: int) -> Place:
    return Place(0, 0, _digest(b"netdump/1 start\n", DUMP_ID, struct.pack(">Q", image_bytes)))


def write_segment(folder: Path, place: Place, pieces: list[Piece]) -> tuple[Place, dict[str, Any]]:
    """Write a segment at place; give the place after it and its object in a manifest."""
    header = b"NDSEG/1\n" + DUMP_ID + struct.pack(">QQ", place.offset, place.first) + place.chain
    body, table, offset, chain = b"", b"", place.offset, place.chain
    for piece in pieces:
        frame, digest = _frame(offset, piece)
        table += struct.pack(">QIIQII", 72 + len(body), len(frame), len(piece.raw), offset, piece.length, 0) + digest
        body += frame
        offset += piece.length
        chain = _digest(b"netdump/1 link\n", chain, digest)
    trailer = struct.pack(">IIQQ", len(pieces), 0, 72 + len(body), offset) + chain
    seal = _digest(header, table, trailer)
    octets = header + body + table + trailer + seal + b"NDSEGEND"
    name = f"{place.offset:016x}-{offset:016x}.seg"
    (folder / "segments").mkdir(exist_ok=True)
    (folder / "segments" / name).write_bytes(octets)
    entry = {"name": name, "start": place.offset, "end": offset, "chunks": len(pieces), "bytes": len(octets)}
    return Place(offset, place.first + len(pieces), chain), entry | {"sha256": seal.hex()}


def write_sealed(path: Path, members: dict[str, Any]) -> None:
    def text(value: dict[str, Any]) -> bytes:
        # json escapes U+007F, the canonical text does not [S-10].
        dumped = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return dumped.replace("\\u007f", "\x7f").encode("ascii") + b"\n"

    path.write_bytes(text(members | {"sha256": hashlib.sha256(text(members)).hexdigest()}))


AWKWARD = '\x7f \u00eb \u2028 \U0001f600 / " \\ \b\f\n\r\t \0\x1f\x80'  # every kind of character in [S-10]
PATTERN = bytes(range(251)) * 34
FIRST = Piece(((DATA, 0, 100, 0), (ZERO, 0, 2 * PAGE, 0), (DATA, 0, PAGE, 0)), PATTERN[: PAGE + 100])
SECOND = Piece(((ALIAS, 0, PAGE, 50), (EXCLUDED, 2, PAGE, 0), (EXCLUDED, 5, PAGE, 0), (LOST, 0, PAGE, 0)))
THIRD = Piece(((ALIAS, 0, 3 * PAGE, 2 * PAGE), (DATA, 0, 8, 0)), b"the end!")
IMAGE_BYTES = FIRST.length + SECOND.length + THIRD.length


def expected_image() -> bytes:
    image = bytearray(PATTERN[:100] + bytes(2 * PAGE) + PATTERN[100 : PAGE + 100])
    image += image[50 : 50 + PAGE] + bytes(3 * PAGE)
    return bytes(image + image[2 * PAGE : 5 * PAGE] + b"the end!")


def build_dump(parent: Path) -> Path:
    """Build a complete dump of two segments and three chunks."""
    folder = parent / DUMP_ID.hex()
    folder.mkdir()
    origin = {"format": "netdump-origin/1", "id": DUMP_ID.hex(), "host": "h1", "host_key": "00" * 32}
    origin |= {"image_bytes": IMAGE_BYTES, "page_bytes": PAGE, "level": 31, "drill": False}  # type: ignore[dict-item]
    write_sealed(folder / "origin.json", origin | {"agent": "tëst/1", "created": 1700000000})
    headline = struct.pack(">HI", 6, 3) + b"6.1"
    (folder / "headline").write_bytes(headline)
    place, one = write_segment(folder, begin(IMAGE_BYTES), [FIRST, SECOND])
    place, two = write_segment(folder, place, [THIRD])
    root = _digest(b"netdump/1 root\n", place.chain, struct.pack(">QQ", IMAGE_BYTES, 3))
    frames = one["bytes"] + two["bytes"] - 2 * (72 + 96) - 3 * 64
    common = {"id": DUMP_ID.hex(), "host": "h1", "image_bytes": IMAGE_BYTES, "chunks": 3, "root": root.hex()}
    common["completed"] = 1700000009
    totals = {"data": 100 + PAGE + 8, "zero": 2 * PAGE, "alias": 4 * PAGE, "excluded": 2 * PAGE, "lost": PAGE}
    manifest = common | {"format": "netdump-manifest/1", "headline": hashlib.sha256(headline).hexdigest()}
    manifest |= {"totals": totals | {"stored": frames}, "excluded": {"cache": PAGE, "free": PAGE}}
    write_sealed(folder / "manifest.json", manifest | {"segments": [one, two], "unknown": [None, {AWKWARD: -1}]})
    receipt = common | {"format": "netdump-receipt/1", "collector": "c1", "certificate": "", "signature": ""}
    write_sealed(folder / "receipt.json", receipt)
    return folder


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    members = json.loads(path.read_bytes())
    del members["sha256"]
    change(members)
    write_sealed(path, members)


def test_complete_dump_is_verified_and_restored(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    result = decode("dump", folder, "-o", tmp_path / "image")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(f"complete offset={IMAGE_BYTES} chunks=3 ")
    assert (tmp_path / "image").read_bytes() == expected_image()


def test_incomplete_dump_is_restored_up_to_its_durable_offset(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    last = max((folder / "segments").iterdir())
    last.write_bytes(last.read_bytes()[:-1])
    end = FIRST.length + SECOND.length
    result = decode("dump", folder, "-o", tmp_path / "image")
    assert result.stdout.startswith(f"incomplete offset={end} chunks=2 ")
    assert (tmp_path / "image.incomplete").read_bytes() == expected_image()[:end]
    assert not (tmp_path / "image").exists()


def test_recovery_takes_the_longest_run_not_the_longest_first_segment(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    beginning = begin(IMAGE_BYTES)
    whole = [*FIRST.runs, SECOND.runs[0]]
    write_segment(folder, beginning, [FIRST])
    write_segment(
        folder, beginning, [Piece(tuple(whole), FIRST.raw), Piece(SECOND.runs[1:]), Piece(((ZERO, 0, 9, 0),))]
    )
    assert decode("dump", folder).stdout.startswith(f"incomplete offset={IMAGE_BYTES} chunks=3 ")


def test_of_runs_that_end_together_the_one_with_the_longer_segment_first_counts(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    shorter = Piece((*FIRST.runs, SECOND.runs[0]), FIRST.raw)
    place, _ = write_segment(folder, begin(IMAGE_BYTES), [shorter])
    write_segment(folder, place, [Piece(SECOND.runs[1:3]), Piece(SECOND.runs[3:]), THIRD])
    assert decode("dump", folder).stdout.startswith(f"incomplete offset={IMAGE_BYTES} chunks=3 ")
    _first(folder).unlink()
    assert decode("dump", folder).stdout.startswith(f"incomplete offset={IMAGE_BYTES} chunks=3 ")
    _first(folder).unlink()
    assert decode("dump", folder).stdout.startswith("incomplete offset=0 ")


def test_segments_beyond_the_image_do_not_count(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    write_segment(folder, begin(IMAGE_BYTES), [Piece(((ZERO, 0, IMAGE_BYTES + 1, 0),))])
    assert decode("dump", folder).stdout.startswith(f"incomplete offset={IMAGE_BYTES} chunks=3 ")


@pytest.mark.parametrize("field", [0, 8, 12, 28])
def test_a_sealed_table_that_is_wrong_is_found(field: int, tmp_path: Path) -> None:
    """The seal is right, so only position, frame_bytes, raw_bytes and reserved themselves can tell."""
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    path = max((folder / "segments").iterdir())
    octets = bytearray(path.read_bytes())
    table = len(octets) - 96 - 64
    octets[table + field + 3] ^= 1
    octets[-40:-8] = _digest(bytes(octets[:72]), bytes(octets[table:-40]))
    path.write_bytes(octets)
    result = decode("dump", folder)
    if field == 12:
        assert result.stdout.startswith("damaged: "), "sound, but not verified [S-21]"
    else:
        assert result.stdout.startswith(f"incomplete offset={FIRST.length + SECOND.length} "), "not sound [S-20]"


def test_what_is_no_file_is_no_segment(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    (folder / "segments" / f"{0:016x}-{IMAGE_BYTES:016x}.seg").mkdir()
    assert decode("dump", folder).stdout.startswith(f"incomplete offset={IMAGE_BYTES} chunks=3 ")


def test_recovery_without_a_segment_from_the_start_begins_at_0(tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    (folder / "manifest.json").unlink()
    min((folder / "segments").iterdir()).unlink()
    assert decode("dump", folder).stdout.startswith("incomplete offset=0 chunks=0 ")


def _flip(path: Path, position: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[position] ^= 1
    path.write_bytes(octets)


def _reseal_text(path: Path, old: bytes, new: bytes) -> None:
    """Change the text of a sealed file, and its seal so that it fits the text without it."""
    text = path.read_bytes()
    seal = b'"sha256":"' + json.loads(text)["sha256"].encode() + b'",'
    assert text.count(seal) == 1
    assert old in text
    before, after = text.replace(old, new).split(seal)
    fresh = hashlib.sha256(before + after).hexdigest()
    path.write_bytes(before + b'"sha256":"' + fresh.encode() + b'",' + after)


def _first(folder: Path) -> Path:
    return min((folder / "segments").iterdir())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "segment header": lambda folder: _flip(_first(folder), 30),
    "frame header": lambda folder: _flip(_first(folder), 73),
    "raw data": lambda folder: _flip(_first(folder), 500),
    "table": lambda folder: _flip(_first(folder), -150),
    "trailer": lambda folder: _flip(_first(folder), -90),
    "trailer magic": lambda folder: _flip(_first(folder), -1),
    "segment gone": lambda folder: _first(folder).unlink(),
    "segment misnamed": lambda folder: _first(folder).rename(max((folder / "segments").iterdir())),
    "headline gone": lambda folder: (folder / "headline").unlink(),
    "headline another": lambda folder: _flip(folder / "headline", 8),
    "origin": lambda folder: _flip(folder / "origin.json", 40),
    "seal": lambda folder: (folder / "origin.json").write_bytes((folder / "origin.json").read_bytes() + b"\n"),
    "format": lambda folder: reseal(folder / "manifest.json", lambda one: one.update(format="netdump-manifest/2")),
    "escaped U+007F": lambda folder: _reseal_text(folder / "manifest.json", b"\x7f", b"\\u007f"),
    "upper case escape": lambda folder: _reseal_text(folder / "manifest.json", b"\\u00eb", b"\\u00EB"),
    "escaped slash": lambda folder: _reseal_text(
        folder / "manifest.json", b"netdump-manifest/1", rb"netdump-manifest\/1"
    ),
    "name twice": lambda folder: _reseal_text(folder / "manifest.json", b'"chunks":3,', b'"chunks":3,"chunks":3,'),
    "a truth for a number": lambda folder: reseal(
        folder / "manifest.json", lambda one: one["segments"][1].update(chunks=True)
    ),
    "a class that does not occur": lambda folder: reseal(
        folder / "manifest.json", lambda one: one["excluded"].update(user=0)
    ),
    "a state missing": lambda folder: reseal(folder / "manifest.json", lambda one: one["totals"].pop("lost")),
    "name of a segment": lambda folder: reseal(
        folder / "manifest.json",
        lambda one: one["segments"][0].update(name="../segments/" + one["segments"][0]["name"]),
    ),
    "no headline named": lambda folder: reseal(folder / "manifest.json", lambda one: one.update(headline=None)),
    "receipt of another time": lambda folder: reseal(folder / "receipt.json", lambda one: one.update(completed=1)),
    "root": lambda folder: reseal(folder / "manifest.json", lambda one: one.update(root="00" * 32)),
    "chunks": lambda folder: reseal(folder / "manifest.json", lambda one: one.update(chunks=4)),
    "host": lambda folder: reseal(folder / "manifest.json", lambda one: one.update(host="h2")),
    "totals": lambda folder: reseal(folder / "manifest.json", lambda one: one["totals"].update(zero=1)),
    "segment digest": lambda folder: reseal(
        folder / "manifest.json", lambda one: one["segments"][0].update(sha256="00" * 32)
    ),
    "segment missing": lambda folder: reseal(folder / "manifest.json", lambda one: one["segments"].pop()),
    "receipt": lambda folder: reseal(folder / "receipt.json", lambda one: one.update(root="00" * 32)),
    "folder": lambda folder: folder.rename(folder.parent / ("0" * 32)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    DAMAGES[name](folder)
    present = next(path for path in tmp_path.iterdir())
    result = decode("dump", present)
    assert (result.returncode, result.stdout[:8]) == (1, "damaged:"), result.stdout + result.stderr


def _drop_headline(folder: Path) -> None:
    (folder / "headline").unlink()
    reseal(folder / "manifest.json", lambda one: one.update(headline=None))


def _add_names(folder: Path) -> None:
    (folder / "segments" / "x.seg").mkdir()
    (folder / "notes").touch()
    (folder / "manifest.json.partial").touch()


HARMLESS: dict[str, Callable[[Path], object]] = {
    "no receipt": lambda folder: (folder / "receipt.json").unlink(),
    "no headline": _drop_headline,
    "unknown total": lambda folder: reseal(folder / "manifest.json", lambda one: one["totals"].update(new=1)),
    "unlisted segment": lambda folder: write_segment(folder, begin(IMAGE_BYTES), [FIRST]),
    "unknown names": _add_names,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_no_damage_is_found(name: str, tmp_path: Path) -> None:
    folder = build_dump(tmp_path)
    HARMLESS[name](folder)
    result = decode("dump", folder)
    assert (result.returncode, result.stdout[:9]) == (0, "complete "), result.stdout + result.stderr


@pytest.mark.parametrize(("idle", "code"), [(15, "unknown-critical"), (14, "bad-field")])
def test_a_bound_of_a_table_comes_before_a_later_field(idle: int, code: str, tmp_path: Path) -> None:
    """Idle at least 3 times keepalive stands in the table, so it is judged with its field [W-20]."""
    sized = ((0, 8), (0, 32), (0, 8), (1, 1), (1 << 21, 4), (5, 2), (idle, 2), (0, 1))
    payload = b"".join(
        struct.pack(">HI", 0x8000 | number, size) + value.to_bytes(size, "big")
        for number, (value, size) in enumerate(sized, 1)
    )
    stream = tmp_path / "stream"
    stream.write_bytes(struct.pack(">HHI", 0x8002, 0, len(payload)) + payload)
    assert decode("frames", stream).stdout.startswith(f"failed: {code} ")


PEERS = r"""
import struct, sys, chunks, connection, digests, frames
from hashlib import sha256
def frame(number, *values):
    payload = b"".join(struct.pack(">HI", 0x8000 | one, len(value)) + value for one, value in enumerate(values, 1))
    return struct.pack(">HHI", 0x8000 | number, 0, len(payload)) + payload
def hello(dump_id):
    return frame(1, dump_id, struct.pack(">Q", 9), struct.pack(">I", 4096), b"\0")
def resume(offset, chain):
    size = offset.to_bytes(8, "big")
    return frame(2, size, chain, size, b"\1", struct.pack(">I", 1 << 21), b"\0\5", b"\0\x0f")
START = digests.chain_start(bytes(16), 9)
"""


def say(script: str) -> list[str]:
    """Run a script with the two peers of PEERS, and give the lines that it prints."""
    command = [sys.executable, "-c", PEERS + script]
    return subprocess.run(command, cwd=REFERENCE, capture_output=True, text=True, check=True).stdout.splitlines()


TIMES = """
one = connection.Connection()
def look(seconds):
    one.seconds = seconds
    print(one.timer("client"), one.timer("collector"))
look(9); look(10)
one.receive("client", hello(bytes(16)))
look(19); look(20)
one.receive("collector", resume(0, START))
look(34)
one.receive("client", bytes([128]))
look(35); look(49)
"""


def test_deadlines() -> None:
    """Before RESUME only who waits has one [W-75]; after it any byte counts, also a part of a header [W-61]."""
    assert say(TIMES) == [
        "nothing nothing", "nothing idle-timeout", "nothing nothing", "idle-timeout nothing",
        "keepalive keepalive", "idle-timeout keepalive", "idle-timeout idle-timeout",
    ]  # fmt: skip


CHAINS = """
known = {}
for dump, offset, chain in [(0, 5, 1), (0, 5, 1), (0, 5, 2), (0, 6, 2), (1, 5, 2), (0, 0, 0)]:
    one = connection.Connection(known)
    one.receive("client", hello(bytes([dump]) * 16))
    try:
        one.receive("collector", resume(offset, bytes([chain]) * 32))
        print("ok")
    except frames.WireError as error:
        print(error.code)
"""


def test_a_chain_value_known_from_an_earlier_connection_is_compared() -> None:
    """As told by the RESUME of one, too [W-36]; but what is known of one dump says nothing of another."""
    assert say(CHAINS) == ["ok", "ok", "bad-root", "ok", "ok", "bad-root"]


HEADLINES = """
empty = sha256(b"").digest()
for raw in (0, 1):
    body = bytes.fromhex("28b52ffd2000010000")
    octets = frame(5, bytes([1]), struct.pack(">I", raw), empty, body)
    message = frames.read_message(frames.HEADLINE, octets[8:])
    try:
        print(chunks.read_headline(message))
    except frames.WireError as error:
        print(error.code)
"""


def test_an_empty_headline_may_be_compressed() -> None:
    assert say(HEADLINES) == ["{}", "bad-codec"]


def test_frames_are_shown(tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    stream.write_bytes(_frame(0, FIRST)[0] + struct.pack(">HHI", 99, 0, 2) + b"??" + struct.pack(">HHI", 0x8008, 0, 0))
    result = decode("frames", stream)
    words = [line.split(" ")[0] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert (result.returncode, words) == (0, ["CHUNK", "(skipped", "KEEPALIVE"])


def test_a_stream_that_is_cut_is_told(tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    stream.write_bytes(_frame(0, FIRST)[0][:-1])
    result = decode("frames", stream)
    assert (result.returncode, result.stdout) == (1, "failed: the stream ends within a payload\n")
