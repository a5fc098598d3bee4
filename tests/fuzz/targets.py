"""All fuzz targets, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fuzz import targets_api, targets_core, targets_store, targets_text, targets_trust, targets_wire

if TYPE_CHECKING:
    from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for group in (targets_wire, targets_core, targets_store, targets_trust, targets_text, targets_api)
    for target in group.TARGETS
}
