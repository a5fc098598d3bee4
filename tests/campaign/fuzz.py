"""The fuzz targets with seeded damage (tests/fuzz); case N is a batch of inputs for target N modulo their number."""

from __future__ import annotations

import warnings
from random import Random
from typing import TYPE_CHECKING, Final

from cryptography.utils import CryptographyDeprecationWarning

from tests.campaign.frame import Campaign, seeded
from tests.fuzz.mutation import mutated
from tests.fuzz.target import corpus, judge
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from tests.campaign.frame import Budget, Tally

INPUTS: Final = 100


def look(case: int, tally: Tally) -> None:
    """A batch of inputs for one target."""
    target = list(TARGETS.values())[case % len(TARGETS)]
    inputs, random = [*target.seeds(), *corpus(target)], Random(f"campaign/{case}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for _ in range(INPUTS):
            data = mutated(random, inputs, target.bytes_max)
            try:
                judge(target, data)
            except Exception as error:
                error.args = (f"{target.name}: {error}; input {data[:2000].hex()}",)
                raise
    tally.count("inputs", INPUTS)


def run(budget: Budget) -> Tally:
    """All targets in turn."""
    return seeded(budget, look, batch=len(TARGETS))


CAMPAIGN = Campaign("fuzz", f"{len(TARGETS)} parsers of foreign bytes on damaged inputs", run)
