"""Both readings of the command line give the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdump.client.arguments import Arguments, Misuse, make_parser, parse_arguments, read_plain
from netdump.vmcore.oldmem import ElfcoreHeader

WORDS = st.sampled_from(
    (
        *("-d", "--level", "--config", "--deadline", "--drill", "--remark", "--circumstances", "--source", "--json"),
        *("-q", "--quiet", "-v", "--verbose", "-qq", "-qv", "-d1", "--level=1", "--lev", "--help", "-h", "--", "-", ""),
        *("31", " 7 ", "-1", "0x1f", "1e3", "nan", "a text", "core", "/proc/vmcore", "file", "vmcore", "--elfcorehdr"),
    )
)


@given(st.lists(WORDS, max_size=8))
def test_what_is_read_in_the_plain_way_argparse_reads_the_same(argv: list[str]) -> None:
    plain = read_plain(argv)
    if plain is not None:
        slow = make_parser().parse_args(argv, Arguments())
        assert {name: repr(value) for name, value in vars(plain).items()} == {  # repr: nan is not nan
            name: repr(value) for name, value in vars(slow).items()
        }


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["/proc/vmcore", "--config", "/etc/netdump/client.toml", "--deadline", "3480", "--circumstances", "eth0: slow"],
        ["core", "-d", "1", "--json", "-q"],
        ["--drill", "--remark", "a drill", "-v", "-v", "core"],
        ["--source", "file", "core"],
    ],
)
def test_the_usual_command_lines_do_without_argparse(argv: list[str]) -> None:
    plain = read_plain(argv)
    assert plain is not None
    assert vars(plain) == vars(make_parser().parse_args(argv, Arguments()))


@pytest.mark.parametrize(
    "argv", [["-h"], ["a", "b"], ["--level"], ["-d", "x"], ["-d", "-1"], ["--source", "tape"], ["--colour"], ["-qq"]]
)
def test_what_needs_more_is_left_to_argparse(argv: list[str]) -> None:
    assert read_plain(argv) is None


def test_argparse_is_asked_where_it_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_arguments(["-qqd31", "--elfcorehdr=1G@2G"]).elfcorehdr == ElfcoreHeader.parse("1G@2G")
    with pytest.raises(Misuse) as stop:
        parse_arguments(["--level", "many"])
    assert stop.value.code == 2
    assert stop.value.message == "argument -d/--level: invalid int value: 'many'"
    assert stop.value.message in capsys.readouterr().err


def test_a_mistaken_address_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--elfcorehdr", "somewhere"])
    assert "write it as in elfcorehdr=" in capsys.readouterr().err
