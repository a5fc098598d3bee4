"""netdump as the dump target of a distribution's own kdump: delivers from inside that image, and says whether it did.

Process 1, the hardware watchdog and what happens to an undelivered dump are the distribution's; modules, network,
client and deadline are as in an image of ours (supervisor). Started by `deliver` of the tree (netdump.image.tree), with
the tree as its root folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init.console import say
from netdump.image.init.plan import PLAN_PATH, PlanError
from netdump.image.init.supervisor import Supervisor, read_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

END = "--end"  # the word that asks for the final action of the plan after delivery
DELIVERED, NOT_DELIVERED, USAGE = 0, 1, 2  # exit statuses


def main(argv: Sequence[str], path: str = PLAN_PATH) -> int:
    """Deliver the dump. argv: nothing, or END. Returns DELIVERED, NOT_DELIVERED or USAGE."""
    if list(argv) not in ([], [END]):
        say(f"deliver takes {END} or nothing, not {' '.join(argv)}")
        return USAGE
    try:
        target = Target(read_plan(path))
    except (OSError, ValueError, PlanError) as error:
        say(f"cannot use the plan: {error}")
        return NOT_DELIVERED
    if not target.deliver():
        say("the dump is not delivered: it is left to this system's own kdump")
        return NOT_DELIVERED
    if argv:
        target.end()  # returns only if the machine does not end
    return DELIVERED


class Target(Supervisor):
    """A supervisor that is not process 1."""

    def deliver(self) -> bool:
        """Load modules, reach the network, send. Returns whether a collector has the dump."""
        try:
            self._prepare()
            return self._deliver()
        except Exception as error:  # whatever it is, the distribution's kdump must get its turn
            say(f"netdump itself failed: {type(error).__name__}: {error}")
            return False

    def end(self) -> None:
        """The final action of the plan."""
        self._end(self._plan.final)
