"""What a collector looks after from time to time, for as long as it runs. A look that fails ends none of the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from netdump.errors import NetdumpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from netdump.server.audit import Audit

LOOK_S: Final = 60.0


class Upkeep:
    """The looks of one collector. For its event loop."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._failing: dict[str, str] = {}

    @property
    def failing(self) -> str | None:
        """What is not looked after, or not in order, and why, as of the last looks; None: all is well.

        From any thread.
        """
        return "; ".join(f"{what}: {reason}" for what, reason in list(self._failing.items())) or None

    async def keep(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        """Look until cancelled. what: is looked after, for the log, which has each new failure, and the end of it."""
        while True:
            try:
                await look()
            except NetdumpError as error:
                self._note(what, str(error))
            except Exception as error:  # a mistake of ours: the next look may go well, and all else goes on
                if self._note(what, f"{type(error).__name__}: {error}"):
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": f"looking after {what} failed", "exception": error}
                    )
            else:
                if self._failing.pop(what, None) is not None:
                    self._audit("upkeep-works", what=what)
            await asyncio.sleep(LOOK_S)

    def _note(self, what: str, reason: str) -> bool:
        """Returns whether that is new."""
        is_new = self._failing.get(what) != reason
        self._failing[what] = reason  # first: whoever hears of it may look
        if is_new:
            self._audit("upkeep-failed", what=what, reason=reason)
        return is_new
