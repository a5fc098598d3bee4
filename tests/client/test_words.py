from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.client.words import parse_words, read_words

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", {}),
        ("root=/dev/sda quiet", {}),
        ("xnetdump.level=1 netdumplevel=2", {}),
        ("netdump.level=1 netdump.level=2", {"level": "2"}),
        ('netdump.remark="a  b" netdump.level=1\n', {"remark": "a  b", "level": "1"}),
        ('"netdump.remark=a b"', {"remark": "a b"}),
        ("netdump.drill", {"drill": "1"}),
        ("netdump.remark=", {"remark": ""}),
        ("netdump.remark=a=b", {"remark": "a=b"}),
        ("init=/x -- netdump.level=1", {}),
        ('init=/x "--" netdump.level=1', {}),
    ],
)
def test_words(words: str, found: dict[str, str]) -> None:
    assert parse_words(words) == found


def test_words_of_a_kernel_without_proc(tmp_path: Path) -> None:
    assert read_words(str(tmp_path / "none")) == {}
    (tmp_path / "cmdline").write_bytes(b"netdump.level=3 x=\xff\n")
    assert read_words(str(tmp_path / "cmdline")) == {"level": "3"}


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet=st.sampled_from('netdump.lv= "\n-1x'), max_size=60) | st.text(max_size=60))
def test_any_command_line_yields_words(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_words(text).values())
