"""The formats that a dump is fetched in, and how each is written from the restored image.

Owns the choice. The image in the staging folder is the page store of every other format; it goes away with the folder.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from netdump.codec import shrink
from netdump.errors import BadHeadersError, CoreError, RemoteProtocolError, StoreError
from netdump.namedtuple import NamedTuple
from netdump.remote.progress import Follower
from netdump.remote.staging import disk_faults
from netdump.store.runtables import read_run_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from netdump.index.reading import Catalog, FetchPlan
    from netdump.index.record import DumpRecord
    from netdump.remote.progress import Progress
    from netdump.remote.staging import Staging
    from netdump.store.restore import Restored
    from netdump.store.runtables import RunTable
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts

ZST_LEVEL: Final = 3


class Format(StrEnum):
    """ELF: sparse core. KDUMP: kdump-compressed. ZST: the ELF core as a plain zstd file."""

    ELF = "elf"
    KDUMP = "kdump"
    ZST = "zst"


class Compression(StrEnum):
    """Of pages. Every reader knows zlib; zstd needs crash 8, libkdumpfile 0.5, makedumpfile built with USEZSTD."""

    ZLIB = "zlib"
    ZSTD = "zstd"
    NONE = "none"


SUFFIXES: Final = {Format.ELF: ".elf", Format.KDUMP: ".kdump", Format.ZST: ".elf.zst"}


class Output(NamedTuple):
    """What to write. compression: of the pages of a KDUMP."""

    format: Format
    compression: Compression = Compression.ZLIB

    def estimate(self, image_bytes: int, segment_bytes: int) -> int:
        """About how many bytes the file takes beside the image. image_bytes: with data; segment_bytes: compressed."""
        if self.format is Format.ELF:
            return 0
        raw = self.format is Format.KDUMP and self.compression is Compression.NONE
        # Single pages compress less well than chunks: 1.4 times was measured for zlib.
        return image_bytes if raw else min(image_bytes, 2 * segment_bytes)

    def refuse(self, catalog: Catalog, record: DumpRecord) -> None:
        """Say before anything is fetched what `write` would say of a core that the format cannot hold.

        By what the headline tells: all of it but of the largest machines. Raises BadHeadersError, and as catalog does.
        """
        if self.format is not Format.KDUMP:
            return
        if not record.page_bytes:
            raise BadHeadersError(
                f"the size of the pages of dump {record.id} is not known, which kdump-compressed is made of; "
                "fetch this dump with --format elf"
            )
        from netdump.remote.kdump_file import lay_out  # noqa: PLC0415  # see _write_kdump
        from netdump.vmcore.physmap import ImageMap  # noqa: PLC0415

        if headers := _told_headers(catalog, record):
            lay_out(headers, ImageMap(headers), record.page_bytes)

    def write(
        self, staging: Staging, restored: Restored, plan: FetchPlan, record: DumpRecord, progress: Progress
    ) -> tuple[Path, int]:
        """The finished, durable file in the staging folder and its bytes: the image itself for ELF.

        What an earlier try left is replaced. Raises StorageFaultError, and for KDUMP DamagedError and CoreError.
        """
        if self.format is Format.ELF:
            return restored.path, restored.bytes
        path = staging.output
        with disk_faults(path):
            path.unlink(missing_ok=True)
            if self.format is Format.ZST:
                size = _write_zst(path, restored, Follower(progress, "compressing"))
            else:
                size = self._write_kdump(staging, plan, record, restored.path, progress)
        return path, size

    def _write_kdump(
        self, staging: Staging, plan: FetchPlan, record: DumpRecord, image: Path, progress: Progress
    ) -> int:
        # Half of what this package takes to load, and few ask for this format.
        from netdump.analyze.runspool import RunSpool  # noqa: PLC0415
        from netdump.remote.kdump_file import Core, write_kdump  # noqa: PLC0415
        from netdump.store.files import LocalFiles  # noqa: PLC0415
        from netdump.vmcore.elf import parse_headers  # noqa: PLC0415
        from netdump.vmcore.filesource import FileSource  # noqa: PLC0415
        from netdump.vmcore.kernel import read_facts  # noqa: PLC0415

        source = FileSource(str(image))
        try:
            headers = parse_headers(source.read, plan.image_bytes, f"dump {plan.id}")
            facts = _with_record(read_facts(source, headers), record)
        finally:
            source.close()
        files = LocalFiles(image.parent)
        with (
            closing(files.create(staging.output.name)) as made,
            closing(files.open(image.name)) as pages,
            RunSpool(_run_tables(staging, plan), image.parent) as spool,
        ):
            core = Core(pages, headers, facts, spool, record.page_bytes, record.level)
            size = write_kdump(made, core, self.compression, Follower(progress, "writing pages"))
            made.sync()
        return size


ELF: Final = Output(Format.ELF)


def _write_zst(path: Path, restored: Restored, follow: Callable[[int, int], None]) -> int:
    with restored.path.open("rb") as image, open(path, "xb", opener=_private) as made:
        size = shrink(image, made, restored.bytes, ZST_LEVEL, lambda done: follow(done, restored.bytes))
        made.flush()
        os.fdatasync(made.fileno())
    return size


def _run_tables(staging: Staging, plan: FetchPlan) -> Generator[RunTable, None, None]:
    """Those of the segments in the staging folder, which were verified."""
    for segment in plan.segments:
        with staging.reader(segment.name, bytes.fromhex(plan.id)) as reader:
            yield from read_run_tables(reader)


def _told_headers(catalog: Catalog, record: DumpRecord) -> ElfHeaders | None:
    """The headers of the core by its headline. None: that has none, or none that make sense, or cannot be read."""
    from netdump.vmcore.elf import join_headers  # noqa: PLC0415  # see _write_kdump
    from netdump.wire import unpack_document  # noqa: PLC0415

    with suppress(RemoteProtocolError, CoreError, StoreError):  # the image will tell
        raw = catalog.headline(record.id)
        document = None if raw is None else unpack_document(raw)
        if document and document.ehdr and document.phdrs:
            return join_headers(document.ehdr, document.phdrs, record.image_bytes)
    return None


def _with_record(facts: KernelFacts, record: DumpRecord) -> KernelFacts:
    """What the core does not say of its kernel, from the dump's record."""
    return facts._replace(
        release=facts.release or record.kernel_release,
        version=facts.version or record.kernel_version,
        machine=facts.machine or record.machine,
        nodename=facts.nodename or record.nodename,
        crash_time=facts.crash_time or record.crash_time,
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
