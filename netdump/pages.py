"""The states that the pages of an image can be in, and runs of them: the words that every layer shares.

Numbers: [page_state] and [exclude_class] of protocol/registry.toml.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import Final

from netdump.namedtuple import NamedTuple


class PageState(IntEnum):
    """What is known of a stretch of the image. Nothing else, nothing unstated (DESIGN section 2)."""

    DATA = 0
    ZERO = 1
    ALIAS = 2
    EXCLUDED = 3
    LOST = 4


class ExcludeClass(IntEnum):
    """Why the page filter left pages out. NONE goes with every state but EXCLUDED."""

    NONE = 0
    ZERO = 1
    CACHE = 2
    CACHE_PRIVATE = 3
    USER = 4
    FREE = 5
    HWPOISON = 6
    OFFLINE = 7
    UNACCEPTED = 8


class Run(NamedTuple):
    """A stretch of image in one state.

    length: bytes, 1 or more. source: for ALIAS the image offset of the same bytes, else 0.
    """

    state: PageState
    length: int
    exclude: ExcludeClass = ExcludeClass.NONE
    source: int = 0


make_run: Final = partial(tuple.__new__, Run)
"""A Run of a tuple of all its members, in a third of the time of Run(…): images may have tens of millions of runs."""
