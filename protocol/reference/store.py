"""A dump's folder as a reader sees it: what is durable, whether it is complete, and its image; store.md.

Reads only. It does not check the signature of receipt.json [S-35], which needs more than the standard library.
"""

from __future__ import annotations

import re
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import digests
from chunks import ALIAS, CLASSES, DATA, EXCLUDED, HEADLINE_MAX, STATES, Chunk
from frames import HEADLINE_DOCUMENT, WireError, read_fields, read_text
from sealed import SealError, canonical, unseal
from segments import NAME, DamagedError, Place, Segment, iter_chunks, read_segment, recover

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COPY_BYTES = 1 << 20


class Dump(NamedTuple):
    """A dump and the segments that count; complete says that there is a manifest and that it is true."""

    folder: Path
    origin: Mapping[str, object]
    manifest: Mapping[str, object] | None
    segments: tuple[Segment, ...]
    end: Place
    image_bytes: int

    @property
    def complete(self) -> bool:
        """Whether the dump was committed [S-30]."""
        return self.manifest is not None


def read_dump(folder: Path) -> Dump:
    """Read a dump's folder: origin, manifest if there is one, headline, and the segments that count.

    Every segment is found sound, none is verified yet: restore() does that. A missing receipt.json is no damage, the
    collector makes it anew [S-35]. Raises DamagedError, OSError.
    """
    origin = _unseal(folder / "origin.json", "netdump-origin/1")
    dump_id, image_bytes = bytes.fromhex(_text(folder / "origin.json", origin, "id")), _image_bytes(folder, origin)
    if dump_id.hex() != folder.name:
        raise DamagedError(f"{folder}: origin.json is of the dump {dump_id.hex()}")
    _check_headline(folder)
    beginning = Place(0, 0, digests.chain_start(dump_id, image_bytes))
    if not (folder / "manifest.json").exists():
        found = recover(_sound_segments(folder, dump_id, image_bytes), beginning)
        return Dump(folder, origin, None, tuple(found), found[-1].end if found else beginning, image_bytes)
    manifest = _unseal(folder / "manifest.json", "netdump-manifest/1")
    segments = _manifest_segments(folder, manifest, dump_id)
    end = _check_tiles(folder, segments, beginning)
    _check_manifest(folder, origin, manifest, end)
    return Dump(folder, origin, manifest, segments, end, image_bytes)


def _unseal(path: Path, format_name: str) -> dict[str, object]:
    try:
        return unseal(path.read_bytes(), format_name)
    except SealError as error:
        raise DamagedError(f"{path}: {error}") from error


def _text(path: Path, sealed: Mapping[str, object], member: str) -> str:
    value = sealed.get(member)
    if not isinstance(value, str) or (member in {"id", "root"} and not re.fullmatch("([0-9a-f]{2})+", value)):
        raise DamagedError(f"{path}: {member} is {value!r}")
    return value


def _image_bytes(folder: Path, origin: Mapping[str, object]) -> int:
    value = origin.get("image_bytes")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 52:
        raise DamagedError(f"{folder}/origin.json: image_bytes is {value!r}")
    return value


def _check_headline(folder: Path) -> None:
    """The file headline, if there is one, is a headline document [W-41] of at most 8 MiB."""
    path = folder / "headline"
    if not path.exists():
        return
    if path.stat().st_size > HEADLINE_MAX:
        raise DamagedError(f"{path}: larger than {HEADLINE_MAX} bytes")
    try:
        read_fields(path.read_bytes(), HEADLINE_DOCUMENT)
    except WireError as error:
        raise DamagedError(f"{path}: {error}") from error


def _sound_segments(folder: Path, dump_id: bytes, image_bytes: int) -> list[Segment]:
    """Every sound segment of the folder that lies within the image; others do not count [S-23]."""
    found: list[Segment] = []
    for path in (folder / "segments").glob("*.seg"):
        if not path.is_file():
            continue  # nothing that store.md names [S-01]
        try:
            segment = read_segment(path, dump_id)
        except DamagedError:
            continue  # not used, as [S-23] says
        if segment.end.offset <= image_bytes:
            found.append(segment)
    return found


def _manifest_segments(folder: Path, manifest: Mapping[str, object], dump_id: bytes) -> tuple[Segment, ...]:
    """Read exactly the segments of the manifest, each as it says [S-31]."""
    listed = manifest.get("segments")
    if not isinstance(listed, list):
        raise DamagedError(f"{folder}/manifest.json: no segments")
    segments: list[Segment] = []
    for item in listed:
        if not isinstance(item, dict) or not NAME.fullmatch(str(item.get("name"))):
            raise DamagedError(f"{folder}/manifest.json: {item!r} is no segment")
        path = folder / "segments" / str(item["name"])
        try:
            segment = read_segment(path, dump_id)
        except FileNotFoundError as error:
            raise DamagedError(f"{path}: missing") from error
        found = {
            "start": segment.start.offset, "end": segment.end.offset, "chunks": len(segment.entries),
            "bytes": segment.file_bytes, "sha256": segment.sha256.hex(),
        }  # fmt: skip
        wrong = [name for name, value in found.items() if not _same(item.get(name), value)]
        if wrong:
            raise DamagedError(f"{path}: the manifest has another {', '.join(wrong)}")
        segments.append(segment)
    return tuple(segments)


def _check_tiles(folder: Path, segments: tuple[Segment, ...], beginning: Place) -> Place:
    """Each segment continues the one before; give the place after the last [S-30]."""
    place = beginning
    for segment in segments:
        if segment.start != place:
            raise DamagedError(f"{folder}: {segment.path.name} does not continue at {place.offset}")
        place = segment.end
    return place


def _check_manifest(folder: Path, origin: Mapping[str, object], manifest: Mapping[str, object], end: Place) -> None:
    """Hold the manifest against origin, headline and root; and the receipt, if there is one, against it."""
    headline = folder / "headline"
    facts: dict[str, object] = {
        "id": origin["id"], "host": origin.get("host"), "image_bytes": end.offset, "chunks": end.chunks,
        "root": digests.root_of(end.chain, end.offset, end.chunks).hex(),
        "headline": sha256(headline.read_bytes()).hexdigest() if headline.exists() else None,
    }  # fmt: skip
    if end.offset != origin["image_bytes"]:
        raise DamagedError(f"{folder}: the segments end at {end.offset} of {origin['image_bytes']}")
    _compare(folder / "manifest.json", manifest, facts)
    _check_remark(folder / "manifest.json", manifest.get("remark", ""))
    if (folder / "receipt.json").exists():
        receipt = _unseal(folder / "receipt.json", "netdump-receipt/1")
        del facts["headline"]
        _compare(folder / "receipt.json", receipt, facts | {"completed": manifest.get("completed")})


def _check_remark(path: Path, remark: object) -> None:
    if not isinstance(remark, str):
        raise DamagedError(f"{path}: the remark is {remark!r}")
    try:
        read_text("remark", remark.encode("utf-8", "surrogatepass"))
    except WireError as error:
        raise DamagedError(f"{path}: {error}") from error


def _same(one: object, other: object) -> bool:
    """Whether two values are the same JSON; Python finds True equal to 1, JSON does not."""
    return canonical(one) == canonical(other)


def _compare(path: Path, sealed: Mapping[str, object], facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        if not _same(sealed.get(name), value):
            raise DamagedError(f"{path}: {name} is {sealed.get(name)!r}, not {value!r}")


def restore(dump: Dump, image: BinaryIO | None) -> Counter[str]:
    """Verify every chunk of dump and write its image, up to the durable offset [S-40] [S-41].

    image: a new file, readable and writable; None only verifies. Returns bytes by state, by "excluded CLASS", and
    stored. Raises DamagedError, also when the totals of the manifest are not these.
    """
    totals: Counter[str] = Counter()
    for segment in dump.segments:
        totals["stored"] += sum(entry.frame_bytes for entry in segment.entries)
        for chunk in iter_chunks(segment, dump.image_bytes):
            for run in chunk.runs:
                totals[STATES[run.state]] += run.length
                if run.state == EXCLUDED:
                    totals[f"excluded {CLASSES[run.reason]}"] += run.length
            if image is not None:
                _write_chunk(image, chunk)
    if image is not None:
        image.truncate(dump.end.offset)
    if dump.manifest is not None:
        _check_totals(dump.folder / "manifest.json", dump.manifest, totals)
    return totals


def _check_totals(path: Path, manifest: Mapping[str, object], totals: Counter[str]) -> None:
    """Hold what the run tables add up to against the manifest [S-31].

    totals has six members, others are not known and ignored [S-12]; the names in excluded are those that occur.
    """
    told = manifest.get("totals")
    if not isinstance(told, dict):
        raise DamagedError(f"{path}: totals is {told!r}")
    _compare(path, told, {name: totals[name] for name in (*STATES, "stored")})
    excluded = {name: totals[f"excluded {name}"] for name in CLASSES if totals[f"excluded {name}"]}
    _compare(path, manifest, {"excluded": excluded})


def _write_chunk(image: BinaryIO, chunk: Chunk) -> None:
    """Write data and aliases at their places; everything else stays a hole, which reads as zeros [S-40]."""
    used = 0
    for run in chunk.runs:
        if run.state == DATA:
            image.seek(run.offset)
            image.write(chunk.raw[used : used + run.length])
            used += run.length
        elif run.state == ALIAS:
            assert run.source is not None
            _copy(image, run.source, run.offset, run.length)


def _copy(image: BinaryIO, source: int, target: int, length: int) -> None:
    """Copy what was restored at source, which ends at or before target [W-49]; past the end of file it is zeros."""
    for done in range(0, length, COPY_BYTES):
        image.seek(source + done)
        octets = image.read(min(COPY_BYTES, length - done))
        if octets.strip(b"\0"):
            image.seek(target + done)
            image.write(octets)
