from __future__ import annotations

import asyncio
from typing import Any

from netdump.server import upkeep
from netdump.server.upkeep import Upkeep
from tests.server.rig import Events


def test_a_look_that_fails_ends_none_of_the_next(monkeypatch: Any) -> None:
    """Each new failure is told once, in the log and in the status, and that it is over."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.0)
    events, seen, handled = Events(), [], []
    kept = Upkeep(events)
    script: list[Exception | None] = [None, KeyError("a"), KeyError("a"), OSError("b"), None, None]

    async def look() -> None:
        seen.append(kept.failing)
        if not script:
            raise asyncio.CancelledError
        error = script.pop(0)
        if error is not None:
            raise error

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(context["exception"]))
        await asyncio.gather(kept.keep("the clock", look), return_exceptions=True)

    asyncio.run(run())
    broken = "the clock: KeyError: 'a'"
    assert seen == [None, None, broken, broken, "the clock: OSError: b", None, None]
    assert [each["reason"] for each in events.all("upkeep-failed")] == ["KeyError: 'a'", "OSError: b"]
    assert events.all("upkeep-works") == [{"event": "upkeep-works", "what": "the clock"}]
    assert len(handled) == 2
