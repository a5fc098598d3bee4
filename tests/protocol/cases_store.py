"""The store's vectors, one point each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.protocol.crafted import Runs, counter, message, raw_field, raw_frame, u32, u64
from tests.protocol.store_folder import (
    HEADLINE,
    ID,
    STATES,
    Members,
    Piece,
    Segment,
    canonical,
    data,
    manifest,
    origin,
    receipt,
    seal,
    seal_text,
    segments,
)
from tests.protocol.vector_file import Vector, hex_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 300
PARTS = [data(0, 100), data(100, 120), data(220, 80)]


def is_plain(content: bytes) -> bool:
    return content.isascii() and b"\r" not in content and content.count(b"\n") == 1 and content.endswith(b"\n")


class Folder:
    """A dump's folder that a vector is made of."""

    def __init__(self, made: list[Segment] | None = None, size: int = SIZE) -> None:
        """With origin and headline, and these segments."""
        self.made = made or []
        self.size = size
        self.files: dict[str, bytes] = {"origin.json": seal(origin(size)), "headline": HEADLINE}
        for segment in self.made:
            self.put(f"segments/{segment.name}", segment.file())

    def put(self, name: str, content: bytes | None) -> Folder:
        """Add, replace or (None) remove a file."""
        self.files.pop(name, None)
        if content is not None:
            self.files[name] = content
        return self

    def complete(self, **changes: object) -> Folder:
        """Add manifest and receipt; changes: members of the manifest."""
        members = manifest(self.made, self.size, **changes)
        self.put("manifest.json", seal(members))
        return self.put("receipt.json", seal(receipt(members)))

    def body(self) -> list[str]:
        """The lines of the files."""
        lines = [f"id {ID.hex()}"]
        for name, content in self.files.items():
            if name.endswith(".json") and is_plain(content):
                lines.append(f"text {name} {json.dumps(content.decode())}")
            else:
                lines += hex_lines(f"file {name}", content) or [f"file {name} -"]
        return lines

    def good(
        self,
        name: str,
        rule: str,
        comment: str,
        *,
        used: int | None = None,
        unsound: tuple[str, ...] = (),
        check: str = "structure",
    ) -> Vector:
        """A vector of a dump that can be read. used: so many of its segments count; None: all. unsound: file names."""
        use = self.made if used is None else self.made[:used]
        start = segments([data(0, 1)], image_bytes=self.size)[0].chain
        end = use[-1].end if use else 0
        chain = use[-1].chain_after if use else start
        lines = [
            f"complete {'yes' if 'manifest.json' in self.files else 'no'}",
            f"durable {end} {sum(len(segment.pieces) for segment in use)} {chain.hex()}",
            *(f"use {segment.name}" for segment in use),
            *(f"unsound {file}" for file in unsound),
            *(
                f"total {state} {sum(s for x in use for p in x.pieces for t, s, _, _ in p.runs if t == state)}"
                for state in STATES
            ),
            *hex_lines("image", image_of(use)),
        ]
        return Vector(name, "dump", "ok", tuple(rule.split(", ")), check, comment, (*self.body(), *lines))

    def bad(self, name: str, rule: str, expect: str, damaged: str, comment: str, *, check: str = "structure") -> Vector:
        """A vector of a dump that is damaged. damaged: the file that shows it."""
        body = (*self.body(), f"damaged {damaged}")
        return Vector(name, "dump", expect, tuple(rule.split(", ")), check, comment, body)


def image_of(use: list[Segment]) -> bytes:
    """The image that segments hold, [S-40]."""
    image = bytearray()
    for segment in use:
        for piece in segment.pieces:
            taken = 0
            for state, size, _, source in piece.runs:
                if state == "data":
                    image += piece.raw[taken : taken + size]
                    taken += size
                elif state == "alias":
                    image += image[source : source + size]
                else:
                    image += bytes(size)
    return bytes(image)


def made(*groups: list[Piece], size: int = SIZE) -> list[Segment]:
    return segments(*groups, image_bytes=size)


def three() -> list[Segment]:
    """Three segments of one chunk."""
    return made(*[[piece] for piece in PARTS])


def whole() -> Folder:
    """A complete dump of two segments."""
    return Folder(made(PARTS[:2], PARTS[2:])).complete()


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from images()
    yield from recoveries()
    yield from unsound_segments()
    yield from seals()
    yield from origins()
    yield from manifests()
    yield from chunks()
    yield from receipts()


def images() -> Iterator[Vector]:
    """What a reader gets."""
    yield whole().good("complete", "S-31, S-40", "Two segments, headline and receipt.")
    folder = Folder(made(PARTS)).complete(headline=None).put("headline", None)
    yield folder.good("complete-without-headline", "S-30", "A dump may have no headline.")
    yield whole().put("receipt.json", None).good("complete-without-receipt", "S-35", "A crash came before the receipt.")
    runs: Runs = [
        ("data", 20, "none", 0),
        ("zero", 10, "none", 0),
        ("alias", 25, "none", 3),
        ("excluded", 5, "free", 0),
        ("excluded", 6, "cache", 0),
        ("lost", 9, "none", 0),
        ("data", 5, "none", 0),
    ]
    states = Piece(0, runs, counter(25))
    rest = Piece(80, [("alias", 70, "none", 10), ("zero", 50, "none", 0)], b"")
    folder = Folder(made([states], [rest], size=200), 200).complete()
    yield folder.good("states", "S-40", "Every state; an alias of an alias, of zeros and of what was left out.")
    zstd = replace(data(0, SIZE), zstd=True)
    yield Folder(made([zstd])).complete().good("zstd", "S-21", "A chunk in a zstd frame.", check="content")
    piece = data(0, SIZE)
    extra = message("CHUNK", piece.values(), raw_field(99, b"later"))
    folder = Folder(made([replace(piece, frame=extra)])).complete()
    yield folder.good("frame-as-received", "S-21, W-17", "A stored frame keeps the fields that nobody knows.")
    folder = (
        whole().put("vmcore.partial", b"x").put("segments/0000000000000000.seg.partial", b"x").put("notes.txt", b"x")
    )
    yield folder.good("other-names", "S-01, S-02", "Names that the page does not give, and partial files, are ignored.")
    late = segments([data(0, SIZE)], image_bytes=SIZE)
    folder = whole().put(f"segments/{late[0].name}", late[0].file())
    yield folder.good("segment-not-in-manifest", "S-31", "A sound segment that the manifest does not name is not used.")


def recoveries() -> Iterator[Vector]:
    """Dumps that are not complete."""
    yield Folder().good("durable-nothing", "S-23", "No segment: the durable offset is 0.")
    yield Folder().put("headline", None).good("durable-only-origin", "S-23, S-15", "The origin is made first.")
    for count in (1, 2, 3):
        folder = Folder(three()[:count])
        yield folder.good(f"durable-{count}", "S-23, S-41", f"{count} of 3 segments, and no manifest.")
    one, two, last = three()
    folder = Folder([one, last])
    yield folder.good("durable-gap", "S-23", "What comes behind a gap does not count.", used=1)
    folder = Folder([two, last])
    yield folder.good("durable-no-beginning", "S-23", "Nothing begins at 0.", used=0)
    both = made(PARTS[:2])[0]
    folder = Folder([both]).put(f"segments/{one.name}", one.file())
    yield folder.good("durable-longer", "S-23", "Of two that begin at 0 the longer one counts.")
    folder = Folder([one, two, last]).put(f"segments/{both.name}", both.file())
    folder.made = [both, last]
    yield folder.good(
        "durable-longer-first", "S-23", "Two runs reach as far: the one that begins with the longer segment."
    )
    other = made([data(0, 150)])[0]
    folder = Folder([one, two]).put(f"segments/{other.name}", other.file())
    yield folder.good(
        "durable-farthest", "S-23", "The run that ends farthest counts, though it begins with a shorter one."
    )
    for name, changed, text in (
        ("chain", replace(two, chain=bytes(32)), "Another chain value before it."),
        ("number", replace(two, first=2), "Another number of chunks before it."),
    ):
        folder = Folder([one, changed])
        yield folder.good(f"durable-other-{name}", "S-23", text, used=1)
    beyond = replace(last, pieces=[data(220, 81)])
    folder = Folder([one, two, beyond])
    yield folder.good("durable-beyond-image", "S-23", "A segment that ends beyond the image does not count.", used=2)


def unsound_segments() -> Iterator[Vector]:
    """The second of three segments is not sound: it and what comes behind it do not count."""
    for name, comment, content in broken_segments():
        one, two, last = three()
        folder = Folder([one, two, last]).put(f"segments/{two.name}", content)
        yield folder.good(f"unsound-{name}", "S-20, S-23", comment, used=1, unsound=(two.name,))
    one, two, last = three()
    folder = Folder([one, two, last]).put(f"segments/{two.name}", None)
    wrong = f"{two.start:016x}-{two.end + 1:016x}.seg"
    folder.put(f"segments/{wrong}", two.file())
    yield folder.good("unsound-name", "S-20", "The name says another range.", used=1, unsound=(wrong,))
    folder = whole()
    name = folder.made[1].name
    folder.put(f"segments/{name}", folder.files[f"segments/{name}"][:-1])
    yield folder.bad("unsound-complete", "S-31", "not-sound", name, "A complete dump has a segment that is not sound.")


def broken_segments() -> Iterator[tuple[str, str, bytes]]:
    """(name, comment, file) of a segment that is not sound; its digest is right unless that is the point."""
    _, two, _ = three()
    file = two.file()
    table = int.from_bytes(file[-88:-80], "big")
    yield "empty", "The file is empty.", b""
    yield "cut", "The last byte is missing.", file[:-1]
    yield "longer", "There is a byte too much.", file + b"\0"
    yield "magic", "Another magic.", b"NDSEG/2\n" + file[8:]
    yield "end-magic", "Another magic at the end.", file[:-8] + b"NDSEGENX"
    yield "dump", "The id of another dump.", replace(two, dump_id=bytes(16)).file()
    yield "digest", "Another digest in the trailer.", replace(two, trailer_digests={"sha256": bytes(32)}).file()
    yield "header", "The header is not what the digest says.", file[:39] + b"\7" + file[40:]
    yield "no-chunks", "0 chunks.", replace(two, trailer={"chunks": 0}).file()
    yield "more-chunks", "A chunk more than there are entries.", replace(two, trailer={"chunks": 2}).file()
    yield "reserved", "Reserved of the trailer is not 0.", replace(two, trailer={"reserved": 1}).file()
    yield "table", "The table begins elsewhere.", replace(two, trailer={"table": table - 1}).file()
    yield "end", "The trailer names another end.", replace(two, trailer={"end": two.end + 1}).file()
    yield "chain", "The chain does not lead to the trailer.", replace(two, trailer_digests={"chain": bytes(32)}).file()
    for name, at, put in (
        ("position", 0, u64(73)),
        ("frame-bytes", 8, u32(len(two.pieces[0].stored()) - 1)),
        ("raw-bytes", 12, u32((1 << 20) + 1)),
        ("offset", 16, u64(101)),
        ("length", 24, u32(119)),
        ("reserved", 28, u32(1)),
        ("digest", 32, bytes(32)),
    ):
        yield f"entry-{name}", f"The table has another {name}.", replace(two, changes={at: put}).file()


def seals() -> Iterator[Vector]:
    """origin.json, well or badly sealed."""
    folder = Folder().put("origin.json", sealed_agent("\x7f"))
    yield folder.good("sealed-delete", "S-10", "U+007F stands as it is.")
    yield (
        Folder()
        .put("origin.json", sealed_agent(r"\"\\/\b\f\n\r\t\u0000\u001f\u0080\u00e9\ud83d\ude00"))
        .good("sealed-escapes", "S-10", "Every kind of character.")
    )
    members = canonical(origin(SIZE))
    good = seal(origin(SIZE))
    for name, content, comment in (
        ("empty", b"", "The file is empty."),
        ("no-line-feed", good[:-1], "No line feed at the end."),
        ("two-line-feeds", good + b"\n", "Two line feeds at the end."),
        ("carriage-return", good[:-1] + b"\r\n", "A carriage return."),
        ("blank", good.replace(b":", b": ", 1), "A blank behind a colon."),
        ("byte-order-mark", b"\xef\xbb\xbf" + good, "A byte order mark."),
        ("no-seal", members.encode() + b"\n", "No member sha256."),
        ("upper-case", good.replace(digest_of(good), digest_of(good).upper()), "The digest in upper case."),
        ("other-content", good.replace(b"web1", b"web2"), "Content and digest differ."),
        ("order", seal_text(members.replace('{"agent"', '{"zagent"')), "The names are not sorted."),
        ("twice", seal_text(members.replace('"drill"', '"created":1700000000,"drill"')), "A name stands twice."),
        ("fraction", seal_text(members.replace('"level":31', '"level":31.0')), "A number with a fraction."),
        ("exponent", seal_text(members.replace('"level":31', '"level":31e0')), "A number with an exponent."),
        ("minus-zero", seal_text(members.replace('"level":31', '"level":-0')), "Minus zero."),
        ("raw-utf-8", sealed_agent("é"), "A character beyond ASCII stands as it is."),
        ("upper-case-escape", sealed_agent(r"\u00E9"), "An escape in upper case."),
        ("needless-escape", sealed_agent(r"\u0041"), "An escape of a letter."),
        ("escaped-delete", sealed_agent(r"\u007f"), "An escape of U+007F."),
        ("escaped-slash", sealed_agent(r"\/"), "An escaped slash."),
        ("long-escape", sealed_agent(r"\u000a"), "A line feed by its number."),
        ("lone-high-surrogate", sealed_agent(r"\ud83d"), "The first half of a surrogate pair."),
        ("lone-low-surrogate", sealed_agent(r"\ude00\ud83d"), "The halves of a surrogate pair, the wrong way round."),
        ("no-object", b"[]\n", "Not an object."),
    ):
        folder = Folder().put("origin.json", content)
        yield folder.bad(f"sealed-{name}", "S-10, S-11", "not-sealed", "origin.json", comment)


def digest_of(sealed: bytes) -> bytes:
    digest: str = json.loads(sealed)["sha256"]
    return digest.encode()


def sealed_agent(written: str) -> bytes:
    """A sealed origin.json whose agent is written so."""
    return seal_text(canonical(origin(SIZE)).replace('"netdump/1.0"', f'"{written}"'))


def origins() -> Iterator[Vector]:
    """What origin.json may say."""
    folder = Folder().put("origin.json", seal(origin(SIZE, mood="fine")))
    yield folder.good("origin-more-members", "S-12", "A member that nobody knows.")
    folder = Folder().put("origin.json", seal(origin(SIZE, format="netdump-origin/2")))
    yield folder.bad("origin-format", "S-12", "format", "origin.json", "A format that nobody knows.")
    folder = Folder().put("origin.json", None)
    yield folder.bad("origin-missing", "S-15", "missing", "origin.json", "There is no origin.")
    for name, change, comment in (
        ("other-id", {"id": bytes(16).hex()}, "The id of another dump."),
        ("no-bytes", {"image_bytes": 0}, "An image of 0 bytes."),
        ("too-large", {"image_bytes": (1 << 52) + 1}, "An image beyond 2^52 bytes."),
        ("text-for-number", {"image_bytes": "300"}, "A string where an integer must be."),
    ):
        folder = Folder().put("origin.json", seal(origin(SIZE, **change)))
        yield folder.bad(f"origin-{name}", "S-15", "content", "origin.json", comment)


def manifests() -> Iterator[Vector]:
    """What manifest.json may say."""
    folder = whole()
    members: Members = json.loads(folder.files["manifest.json"])
    del members["sha256"]
    first, last = members["segments"]
    totals = members["totals"]
    yield folder.put("manifest.json", seal(members | {"mood": "fine"})).good(
        "manifest-more-members", "S-12", "A member that nobody knows."
    )
    folder = whole().put("manifest.json", seal(members | {"remark": "free pages are sent too"}))
    yield folder.good("manifest-remark", "S-30", "What FINISH had to say.")
    folder = whole().put("manifest.json", seal(members | {"format": "netdump-manifest/2"}))
    yield folder.bad("manifest-format", "S-12", "format", "manifest.json", "A format that nobody knows.")
    folder = whole().put("manifest.json", whole().files["manifest.json"][:-1])
    yield folder.bad("manifest-seal", "S-11", "not-sealed", "manifest.json", "Not sealed.")
    for name, change, comment in (
        ("other-id", {"id": bytes(16).hex()}, "The id of another dump."),
        ("other-host", {"host": "web2"}, "Another host than the origin."),
        ("other-size", {"image_bytes": SIZE + 1}, "Another image size than the origin."),
        ("chunks", {"chunks": 4}, "A chunk more than the segments have."),
        ("data", {"totals": totals | {"data": 299, "zero": 1}}, "Bytes in another state than the run tables say."),
        ("totals", {"totals": totals | {"data": 299}}, "Totals that do not add up to the image."),
        ("total-missing", {"totals": {key: totals[key] for key in totals if key != "lost"}}, "A total is missing."),
        ("stored", {"totals": totals | {"stored": totals["stored"] + 1}}, "Another size of all frames."),
        ("excluded", {"excluded": {"free": 1}}, "A class that does not occur."),
        ("excluded-none", {"excluded": {"free": 0}}, "A class of 0 bytes."),
        ("no-segments", {"segments": []}, "No segments."),
        ("gap", {"segments": [first]}, "Segments that do not tile the image."),
        ("order", {"segments": [last, first]}, "Segments out of order."),
        ("name", {"segments": [first | {"name": "../x"}, last]}, "A name that is not the range."),
        ("remark-kind", {"remark": 7}, "A remark that is no text."),
        ("remark-control", {"remark": "free\x1b[2J"}, "A remark with a control character."),
        ("remark-long", {"remark": "x" * 1025}, "A remark that is too long."),
    ):
        folder = whole().put("receipt.json", None).put("manifest.json", seal(members | change))
        yield folder.bad(f"manifest-{name}", "S-30, S-31", "content", "manifest.json", comment, check="content")
    folder = whole().put("receipt.json", None).put("manifest.json", seal(members | {"root": bytes(32).hex()}))
    yield folder.bad("manifest-root", "S-31", "bad-root", "manifest.json", "Another root.")
    for name, change, comment in (
        ("bytes", {"bytes": last["bytes"] + 1}, "Another size of a segment."),
        ("digest", {"sha256": bytes(32).hex()}, "Another digest of a segment."),
    ):
        listed = {"segments": [first, last | change]}
        folder = whole().put("manifest.json", seal(members | listed))
        yield folder.bad(f"manifest-segment-{name}", "S-31", "other-segment", last["name"], comment)
    folder = whole().put(f"segments/{last['name']}", None)
    yield folder.bad("segment-missing", "S-31", "missing", last["name"], "A segment of the manifest is not there.")
    folder = whole().put("headline", b"")
    yield folder.bad("headline-other", "S-30", "bad-digest", "headline", "Another headline than the manifest says.")
    folder = whole().put("headline", None)
    yield folder.bad("headline-missing", "S-30", "missing", "headline", "The manifest names a headline.")
    folder = Folder(three()[:1]).put("headline", b"no document")
    yield folder.bad("headline-document", "W-41", "bad-headline", "headline", "Not a headline document.")


def chunks() -> Iterator[Vector]:
    """Sound segments whose frames are not what the table says."""
    good = data(0, SIZE)
    values = good.values()
    other = data(0, SIZE - 1)
    cases: list[tuple[str, str, str, bytes]] = [
        ("data", "bad-digest", "A changed byte of data.", message("CHUNK", values | {"data": b"\xff" + good.raw[1:]})),
        ("digest", "bad-digest", "The frame has another digest.", message("CHUNK", values | {"digest": bytes(32)})),
        ("runs", "bad-digest", "Other runs.", message("CHUNK", Piece(0, [("zero", SIZE, "none", 0)], b"").values())),
        (
            "run-table",
            "bad-chunk",
            "A state that nobody knows.",
            message("CHUNK", values | {"runs": b"\5" + bytes(3) + u32(SIZE)}),
        ),
        ("not-zstd", "bad-codec", "Data that is no zstd frame.", message("CHUNK", values | {"codec": 1})),
        ("not-a-chunk", "bad-chunk", "A message, but no CHUNK.", message("KEEPALIVE", {})),
        ("unknown", "bad-chunk", "An unknown message.", raw_frame(99, b"")),
        ("longer", "bad-chunk", "A byte behind the frame.", good.stored() + b"\0"),
        ("nothing", "bad-chunk", "No room for a frame.", b"\x80"),
    ]
    for name, expect, comment, frame in cases:
        folder = Folder(made([replace(good, frame=frame)])).complete()
        yield folder.bad(f"chunk-{name}", "S-21", expect, folder.made[0].name, comment, check="content")
    folder = Folder(made([replace(PARTS[0], frame=other.stored()), *PARTS[1:]])).complete()
    yield folder.bad(
        "chunk-of-another", "S-21", "bad-digest", folder.made[0].name, "A good frame of another chunk.", check="content"
    )
    one = made([good])[0]
    folder = Folder([replace(one, changes={12: u32(SIZE - 1)})]).complete()
    yield folder.bad(
        "chunk-raw-bytes", "S-21", "bad-chunk", one.name, "The table has another size of raw data.", check="content"
    )
    folder = Folder(
        [replace(three()[0], pieces=[replace(PARTS[0], frame=message("CHUNK", PARTS[0].values() | {"data": b""}))])]
    )
    yield folder.bad(
        "chunk-incomplete-dump",
        "S-21",
        "bad-codec",
        folder.made[0].name,
        "Of a dump without manifest.",
        check="content",
    )


def receipts() -> Iterator[Vector]:
    """What receipt.json may say; whether its signature is good is not shown here."""
    of: Members = json.loads(whole().files["manifest.json"])
    for name, change in (
        ("id", {"id": bytes(16).hex()}),
        ("host", {"host": "web2"}),
        ("size", {"image_bytes": SIZE + 1}),
        ("chunks", {"chunks": 4}),
        ("root", {"root": bytes(32).hex()}),
        ("completed", {"completed": 1}),
    ):
        folder = whole().put("receipt.json", seal(receipt(of, **change)))
        yield folder.bad(
            f"receipt-{name}", "S-35", "content", "receipt.json", f"Another {name} than the manifest says."
        )
    folder = whole().put("receipt.json", seal(receipt(of, format="netdump-receipt/2")))
    yield folder.bad("receipt-format", "S-12", "format", "receipt.json", "A format that nobody knows.")
    folder = whole().put("receipt.json", seal(receipt(of)).replace(b"example", b"exampla"))
    yield folder.bad("receipt-seal", "S-11", "not-sealed", "receipt.json", "Content and digest differ.")
