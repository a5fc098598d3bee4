"""The words of a kernel command line: where one ends, which are ours.

Owns how the line is split. What a word may say is checked where it is heeded (config, and the init of the image).
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_LINE = "/proc/cmdline"
WORD_PREFIX = "netdump."
FOR_INIT = "--"  # the kernel reads no further (Linux kernel/params.c); a boot configuration brings it too


def read_words(path: str) -> dict[str, str]:
    """Read the words of a kernel command line, as at COMMAND_LINE.

    A kernel that shows none (no /proc) has none.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_words(file.read())
    except OSError:
        return {}


def parse_words(command_line: str) -> dict[str, str]:
    """Find the `netdump.NAME=VALUE` words of a kernel command line, known or not; the last of several wins.

    Double quotes protect blanks and are removed, as the kernel does (Linux lib/cmdline.c, next_arg); a bare
    `netdump.drill` means 1.
    """
    words: dict[str, str] = {}
    for word in words_for_kernel(command_line):
        name, equals, value = word.replace('"', "").partition("=")
        if name.startswith(WORD_PREFIX):
            words[name.removeprefix(WORD_PREFIX)] = value if equals else "1"
    return words


def words_for_kernel(text: str) -> Iterator[str]:
    """The words of a kernel command line but for those that are for its init; as split_words gives them."""
    return takewhile(lambda word: word.replace('"', "") != FOR_INIT, split_words(text))


def split_words(text: str) -> Iterator[str]:
    """The words of a kernel command line; double quotes protect blanks and stay."""
    word, quoted = "", False
    for char in text:
        quoted ^= char == '"'
        if char.isspace() and not quoted:
            if word:
                yield word
            word = ""
        else:
            word += char
    if word:
        yield word
