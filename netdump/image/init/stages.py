"""The stages of the init, by name: each is a process of its own, started by `supervisor`.

Owns which function a stage is.
"""

from __future__ import annotations

from netdump.image.init.console import warn


def main(argv: list[str]) -> int:
    """Run one stage and return its exit status; 1 if it fails by a fault of its own, which the collector learns too."""
    try:
        return _run(argv)
    except Exception as error:  # whatever it is
        warn(f"{argv[0]} failed: {type(error).__name__}: {error}")
        return 1


def _run(argv: list[str]) -> int:
    """Imports are inside, so that a stage loads only what it needs."""
    if argv[0] == "finish":
        from netdump.image.init.finish import finish  # noqa: PLC0415

        return finish(argv[1])
    from netdump.image.init.supervisor import read_plan  # noqa: PLC0415
    from netdump.image.init.words import heed  # noqa: PLC0415

    plan = heed(read_plan())
    if argv[0] == "prepare":
        from netdump.image.init.prepare import prepare  # noqa: PLC0415

        return prepare(plan)
    if argv[0] == "network":
        from netdump.image.init.network import bring_up  # noqa: PLC0415

        return bring_up(plan, int(argv[1]) if argv[1:] else 0)
    if argv[0] == "renew":
        from netdump.image.init.renewal import renew  # noqa: PLC0415

        return renew(plan)
    assert argv[0] == "save", argv
    from netdump.image.init.save import save_image  # noqa: PLC0415

    return save_image(plan)
