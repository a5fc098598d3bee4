from __future__ import annotations

import asyncio
from typing import Any

from netdump.errors import StorageFaultError
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


def test_a_disk_that_fails_is_no_mistake(monkeypatch: Any) -> None:
    """It is told, and over, as the rest is, but there is no trace to be had."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.0)
    events, handled = Events(), []
    script: list[Exception | None] = [StorageFaultError("full"), StorageFaultError("full"), None]

    async def look() -> None:
        if not script:
            raise asyncio.CancelledError
        if (error := script.pop(0)) is not None:
            raise error

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(context))
        await asyncio.gather(Upkeep(events).keep("serve.json", look), return_exceptions=True)

    asyncio.run(run())
    assert [each["reason"] for each in events.all("upkeep-failed")] == ["full"]
    assert events.all("upkeep-works") == [{"event": "upkeep-works", "what": "serve.json"}]
    assert handled == []
