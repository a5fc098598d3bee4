"""The flag bits of struct page, as VMCOREINFO numbers them, and whether these numbers go together.

Owns enum pageflags. Must not know what a flag is good for. The enum has been rearranged a few times; a set of numbers
that fits none of its states is not believed. Source: Linux include/linux/page-flags.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo


class FlagBits(NamedTuple):
    """Bit numbers; None: VMCOREINFO has none."""

    lru: int | None
    private: int | None
    swapcache: int | None
    swapbacked: int | None
    slab: int | None
    hwpoison: int | None
    head: int | None


class _State(NamedTuple):
    """One state of the enum: what each bit may be; empty: VMCOREINFO does not export it."""

    lru: tuple[int, ...]
    slab: tuple[int, ...]
    swapcache: tuple[int, ...]
    private: tuple[int, ...]
    head: tuple[int, ...]
    swapbacked: tuple[int, ...]
    hwpoison: tuple[int, ...]


_STATES: Final = (
    _State((5,), (7,), (15, 16), (11,), (14,), (), (21, 22, 23)),  # v4.0; PG_tail went in v4.4
    _State((5,), (8,), (9,), (12,), (15,), (18,), (21, 22)),  # v4.10: PG_waiters, swapcache shares owner_priv_1's bit
    _State((4,), (9,), (10,), (13,), (16,), (19,), (22, 23)),  # v4.20: PG_workingset, PG_error behind
    _State((5,), (11,), (12,), (15,), (6,), (19,), (22, 23)),  # v6.6: PG_writeback, PG_head among the first eight
    _State((5,), (), (11,), (14,), (6,), (18,), (21, 22)),  # v6.10: slab is a page type
    _State((5,), (), (10,), (14,), (6,), (17,), (20, 21)),  # v6.12: PG_owner_2 for PG_error and PG_mappedtodisk
)


def mask(bit: int | None) -> int:
    """The mask of a bit, 0 if it is not known."""
    return 0 if bit is None else 1 << bit


def read_flag_bits(info: Vmcoreinfo) -> FlagBits:
    """The flags of this kernel; swapcache only where it can be told from its bit's other meaning.

    Raises KernelDataError if they lie as in no kernel that is known.
    """
    head_mask = info.number("PG_head_mask")
    head = None
    if head_mask is not None:
        if head_mask <= 0 or head_mask & head_mask - 1:
            raise KernelDataError(f"PG_head_mask {head_mask} is not one bit of the page flags")
        head = head_mask.bit_length() - 1
    bits = FlagBits(
        lru=info.number("PG_lru"),
        private=info.number("PG_private"),
        swapcache=info.number("PG_swapcache"),
        swapbacked=info.number("PG_swapbacked"),
        slab=info.number("PG_slab"),
        hwpoison=info.number("PG_hwpoison"),
        head=head,
    )
    states = [state for state in _STATES if _fits(bits, state)]
    if not states:
        raise KernelDataError("the page flags lie as in no kernel that is known")
    if bits.swapbacked is None and any(state.swapbacked for state in states):
        # The bit is its owner's too (Xen's page tables), which only swapbacked tells: exported by 1cbf29da3628, v4.17.
        return bits._replace(swapcache=None)
    return bits


def _fits(bits: FlagBits, state: _State) -> bool:
    """Whether all bits that are known are those of a state."""
    known = bits._asdict()
    return all(known[name] is None or known[name] in allowed for name, allowed in state._asdict().items())
