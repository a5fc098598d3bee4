from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.pages import ExcludeClass
from netdump.testing.struct_page_writer import ERAS
from netdump.testing.vast_machine import SECTION_PAGES, VastMachine, main
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.filter import open_filter
from netdump.vmcore.kernel import read_facts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_filter_finds_what_is_expected(tmp_path: Path) -> None:
    machine = VastMachine.build(ERAS["6.12"], 1 << 30)
    path = tmp_path / "core"
    machine.core().write(path)
    assert path.stat().st_size > 1000 << 20
    assert path.stat().st_blocks * 512 < 64 << 20
    source = FileSource(str(path))
    headers = parse_headers(source.read, source.size)
    page_filter = open_filter(source, headers, read_facts(source, headers), 31)
    for pfn in range(0, 8 * SECTION_PAGES, 4096):
        page_filter.classify(pfn * 4096, 4096)
    source.close()
    assert page_filter.remark is None
    found = {name.name.lower(): count for name, count in page_filter.counts.items() if count}
    del found[ExcludeClass.NONE.name.lower()]
    assert found == machine.expected_pages()


def test_as_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["1", str(tmp_path / "core")])
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {name: int(pages) for name, pages in said.items()} == VastMachine.build(
        ERAS["6.12"], 1 << 30
    ).expected_pages()
    assert (tmp_path / "core").stat().st_size > 1000 << 20
