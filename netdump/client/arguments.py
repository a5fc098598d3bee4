"""The arguments of `netdump send`: one table, read in two ways.

argparse explains itself and its complaints well, and takes 7 of the 90 ms in which a small dump is sent. So a command
line as an init, a unit or a script writes it (whole names, each value a word of its own) is read straight from the
table; help, mistakes and everything else that argparse understands is argparse's, made of the same table.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from netdump.client.config import DEFAULT_CONFIG, LEVEL_CAPTURE, LEVEL_FILE
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from netdump.vmcore.oldmem import ElfcoreHeader
    from netdump.vmcore.source import Kind

DEFAULT_SOURCE = "/proc/vmcore"
LEVEL_HELP = (
    "pages to leave out, a sum as for makedumpfile -d: 1 zero, 2 and 4 cache, 8 user, 16 free "
    f"(default {LEVEL_CAPTURE} for memory, {LEVEL_FILE} for a file)"
)


class Arguments:
    """What was asked for, checked for form only. None: not said."""

    def __init__(self) -> None:
        self.vmcore = DEFAULT_SOURCE
        self.config = DEFAULT_CONFIG
        self.level: int | None = None
        self.deadline: float | None = None
        self.drill: bool | None = None
        self.remark: str | None = None
        self.circumstances = ""
        self.source: Kind = "auto"
        self.elfcorehdr: ElfcoreHeader | None = None
        self.json = False
        self.quiet = 0
        self.verbose = 0


class Misuse(SystemExit):
    """A wrong command line, of which standard error has been told. message: what is wrong with it."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


class _Option(NamedTuple):
    """names: as they are written. attribute: of Arguments. how: for argparse's add_argument; help None: not shown."""

    names: tuple[str, ...]
    attribute: str
    help: str | None
    how: Mapping[str, Any]


def _elfcorehdr(text: str) -> ElfcoreHeader:
    from argparse import ArgumentTypeError  # noqa: PLC0415 - argparse is there when this is called

    from netdump.vmcore.oldmem import ElfcoreHeader  # noqa: PLC0415 - seldom needed

    try:
        return ElfcoreHeader.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}; write it as in elfcorehdr= of the capture kernel") from error


_OPTIONS = (
    _Option(("--config",), "config", f"this host's bundle (default {DEFAULT_CONFIG})", {"metavar": "FILE"}),
    _Option(("-d", "--level"), "level", LEVEL_HELP, {"type": int, "metavar": "LEVEL"}),
    _Option(("--deadline",), "deadline", "end by then, delivered or not", {"type": float, "metavar": "SECONDS"}),
    _Option(("--drill",), "drill", "mark the dump as a drill: nothing crashed", {"action": "store_true"}),
    _Option(("--remark",), "remark", "a line to store with the dump", {"metavar": "TEXT"}),
    # What the init of the capture image met with until now; it goes into the remark, and takes none away.
    _Option(("--circumstances",), "circumstances", None, {"metavar": "TEXT"}),
    _Option(("--source",), "source", "how to read the core", {"choices": ("auto", "vmcore", "file", "oldmem")}),
    _Option(
        ("--elfcorehdr",),
        "elfcorehdr",
        "where the ELF headers are in raw memory (oldmem)",
        {"type": _elfcorehdr, "metavar": "ADDR"},
    ),
    _Option(("--json",), "json", "print one JSON object at the end", {"action": "store_true"}),
    _Option(("-q", "--quiet"), "quiet", "only say what goes wrong", {"action": "count"}),
    _Option(("-v", "--verbose"), "verbose", "say more", {"action": "count"}),
)


def shown_options() -> dict[str, str]:
    """The names of all options that help shows, and what it says of each."""
    shown = {name: option.help for option in _OPTIONS if option.help is not None for name in option.names}
    return {"-h": "show this help message and exit", "--help": "show this help message and exit", **shown}


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read a command line (without program and command name).

    Raises SystemExit after having printed help, Misuse after having printed what is wrong, as argparse does.
    """
    arguments = read_plain(argv)
    return make_parser().parse_args(argv, Arguments()) if arguments is None else arguments


def read_plain(argv: Sequence[str]) -> Arguments | None:
    """The same as argparse makes of argv, or None: it has mistakes, or is not written in the plainest way."""
    arguments, given = Arguments(), 0
    options = {name: option for option in _OPTIONS for name in option.names}
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            arguments.vmcore = word
            given += 1
        elif word not in options:
            return None
        else:
            option = options[word]
            try:
                value = _value(option, words, getattr(arguments, option.attribute))
            except ValueError:
                return None
            setattr(arguments, option.attribute, value)
    return arguments if given <= 1 else None


def _value(option: _Option, words: Iterator[str], before: Any) -> object:
    """What an option sets its attribute to. Raises ValueError if argparse should look at it."""
    match option.how.get("action"):
        case "store_true":
            return True
        case "count":
            return before + 1
    word = next(words, "-")
    kind: Callable[[str], object] = option.how.get("type", str)
    if word.startswith("-") or kind is _elfcorehdr or word not in option.how.get("choices", (word,)):
        raise ValueError(word)
    return kind(word)


def make_parser() -> argparse.ArgumentParser:
    """The parser that understands and explains everything. In no colours: nothing else of netdump's has any."""
    import argparse  # noqa: PLC0415 - see the top

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            try:
                super().error(message)
            except SystemExit:
                raise Misuse(message) from None

    parser = Parser(
        prog="netdump send",
        description="Send a core to a collector. After any cut or kill the same command goes on where it was.",
        epilog="Settings: [send] of the bundle, netdump.NAME=VALUE on the kernel command line; see docs/client.md.",
        allow_abbrev=False,
        **_plain(argparse.HelpFormatter),
    )
    parser.add_argument("vmcore", nargs="?", metavar="VMCORE", help=f"the core (default {DEFAULT_SOURCE})")
    for option in _OPTIONS:
        told = argparse.SUPPRESS if option.help is None else option.help
        parser.add_argument(*option.names, dest=option.attribute, help=told, **option.how)
    before = vars(Arguments())
    parser.set_defaults(**before)
    return parser


def _plain(formatter: type[argparse.HelpFormatter]) -> dict[str, Any]:
    """What to tell argparse so that it does not load what capture images have no other use for.

    Of shutil it wants the width of the terminal, and shutil loads every compression of the standard library with its
    shared object. From Python 3.14 on it loads what knows of colours, which brings dataclasses and with them inspect:
    a third of a mebibyte. 3.14 does so even to print no colours, in the one method that is replaced here; 3.15 does
    not (there _colorize is imported lazily).
    """

    class Plain(formatter):  # type: ignore[misc,valid-type]
        def __init__(self, *arguments: Any, **words: Any) -> None:
            super().__init__(*arguments, **{"width": _width(), **words})

        if sys.version_info[:2] == (3, 14):

            def _set_color(self, *_: object, **__: object) -> None:
                self._theme = _NoTheme()
                self._decolor = str

    return {"formatter_class": Plain, **({"color": False} if sys.version_info >= (3, 14) else {})}


def _width() -> int:
    """Columns for text, as shutil finds them."""
    try:
        return (int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(1).columns or 80) - 2
    except (OSError, ValueError):
        return 78


class _NoTheme:
    """Every colour is no text."""

    def __getattr__(self, name: str) -> str:
        return ""
