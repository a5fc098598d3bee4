from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.testing.elf_writer import Core, Load, NoteSegment, note
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.identity import Ingredients, ingredients
from netdump.vmcore.notes import read_notes
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path


def of(core: Core) -> Ingredients:
    source = BytesSource(core.build())
    headers = headers_of(source.image)
    return ingredients(source, headers, read_notes(source.read, headers))


def with_info(text: bytes) -> Core:
    return Core([Load(0, 4096)], notes=[NoteSegment(note(b"VMCOREINFO", 0, text))])


def test_a_crash_time_makes_the_notes_enough() -> None:
    core = with_info(b"OSRELEASE=6.1\nCRASHTIME=1795377839\n")
    found = of(core)
    assert found.headers == core.headers()
    assert found.notes == core.notes[0].data
    assert found.extra == b""


def test_else_the_source_is_named() -> None:
    for core in (with_info(b"OSRELEASE=6.1\n"), with_info(b"XCRASHTIME=1\n"), Core([Load(0, 4096)])):
        assert of(core).extra == b"memory"


def test_a_copy_of_a_nameless_file_is_another_image(tmp_path: Path) -> None:
    image = Core([Load(0, 4096)]).build()
    extras = set()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(image)
        source = FileSource(str(tmp_path / name))
        extras.add(ingredients(source, headers_of(image), b"").extra)
    assert len(extras) == 2


def test_the_real_sample_is_named_by_its_notes(sample: Path) -> None:
    source = FileSource(str(sample))
    headers = headers_of(sample.read_bytes())
    assert ingredients(source, headers, read_notes(source.read, headers)).extra == b""
