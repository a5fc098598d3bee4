"""`netdump arm`: load the capture kernel."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netdump.cli.image_options import image_options, report_object
from netdump.cli.output import print_facts, print_json, size_text, warn
from netdump.cli.signals import orderly_end
from netdump.client.words import parse_words
from netdump.errors import ArmError, NotArmedError
from netdump.image.armed import Armed, changes, digests, only_one, read_record, write_record
from netdump.image.arming import (
    Loading,
    check_machine,
    check_reservation,
    is_loaded,
    load,
    needed_bytes,
    reserved_bytes,
)
from netdump.image.build import ImageSpec, build_image, write_image
from netdump.image.commandline import command_line, refuse_words_for_init, running_command_line
from netdump.index.record import time_text

if TYPE_CHECKING:
    from netdump.image.build import CaptureImage


@click.command("arm", short_help="Load capture kernel and image, so that a panic finds them.")
@image_options
@click.option("--append", metavar="WORD", multiple=True, help="One more word for the capture kernel's command line.")
@click.option("--command-line", "given", metavar="WORDS", help="The whole command line, instead of one made from this.")
@click.option("--if-changed", is_flag=True, help="Load only if what is loaded is not what would be loaded now.")
@click.option("--show", is_flag=True, help="Only say what is loaded; ends with status 95 if nothing is.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: sizes, command line, memory.")
def command(
    *, append: tuple[str, ...], given: str | None, if_changed: bool, show: bool, as_json: bool, **options: Any
) -> None:
    """Build the capture image of this machine and load it with the capture kernel (kexec), in place of an earlier one.

    From then on a panic starts it, sends the dump to this host's collectors, and does what --final or --failure say.
    Do it again at every boot, and after a change of kernel, network, bundle, memory or processors: --if-changed finds
    out whether there was one, says which, and does nothing if there was none. Memory must be reserved on the kernel
    command line, as in crashkernel=128M. Needs root and kexec-tools.

    \b
    Examples:
      netdump arm --config /etc/netdump/client.toml
      netdump arm --final poweroff --save /var/crash
      netdump arm --if-changed
      netdump arm --show

    See also: netdump doctor, netdump disarm, netdump image, netdump enroll.
    """
    if show:
        _show(as_json=as_json)
        return
    if os.geteuid():
        raise ArmError("only root can load a capture kernel: run it as root")
    with only_one():
        before = read_record() if is_loaded() else None
        reserved = reserved_bytes()
        if before is None:
            check_machine(reserved)
        line = given if given is not None else command_line(running_command_line(), append)
        refuse_words_for_init(line)
        known = before.known if before else {}
        image = build_image(ImageSpec(**options, known=known, words=parse_words(line)))
        for warning in image.warnings:
            warn(str(warning))
        needed = needed_bytes(len(image.data), image.raw_bytes, image.kernel.image())
        check_reservation(reserved, needed)
        now = digests(image, line)
        changed = changes(before.digests, now) if before else []
        is_due = before is None or bool(changed) or not if_changed
        if is_due:
            _load(image, line)
            options |= {"append": append, "command_line": given}
            options |= {name: options[name].absolute() for name in ("bundle", "save") if options[name] is not None}
            write_record(_record(image, options, command_line=line, digests=now, reserved=reserved, needed=needed))
    if as_json:
        report = {"reserved_bytes": reserved, "needed_bytes": needed, "command_line": line}
        print_json({**report_object(image), **report, "loaded": is_due, "changed": changed})
    elif is_due:
        _tell(image, reserved, needed, changed)
    else:
        click.echo("Armed already: nothing has changed.")


def _load(image: CaptureImage, line: str) -> None:
    with orderly_end(), tempfile.TemporaryDirectory(prefix="netdump-arm-") as folder:
        initrd = Path(folder) / "capture.img"
        write_image(image, initrd)
        load(Loading(image.kernel.image(), initrd, line))


def _record(image: CaptureImage, options: dict[str, Any], **facts: Any) -> Armed:
    return Armed(
        release=image.kernel.release,
        at=int(time.time()),
        packed=len(image.data),
        ways=[f"{way.link} {way.method}" for way in image.plan.ways],
        collectors=image.collectors,
        known=image.known,
        options=options,
        **facts,
    )


def _tell(image: CaptureImage, reserved: int, needed: int, changed: list[str]) -> None:
    why = f" again (changed: {', '.join(changed)})" if changed else ""
    click.echo(
        f"Armed{why}: a panic starts Linux {image.kernel.release} with an image of {size_text(len(image.data))}, which "
        f"sends over {image.interfaces} to {', '.join(image.collectors)}."
    )
    click.echo(f"Memory: {size_text(reserved)} reserved, {size_text(needed)} needed.")


def _show(*, as_json: bool) -> None:
    """Raises NotArmedError."""
    if not is_loaded():
        raise NotArmedError("no capture kernel is loaded: a panic leaves no dump; load one with `netdump arm`")
    armed = read_record()
    if as_json:
        print_json({"loaded": True, "by_netdump": armed is not None, **(_members(armed) if armed else {})})
    elif armed is None:
        click.echo("A capture kernel is loaded, but not by netdump.")
    else:
        print_facts(
            [
                ("armed", time_text(armed.at) or ""),
                ("kernel", armed.release),
                ("image", size_text(armed.packed)),
                ("memory", f"{size_text(armed.reserved)} reserved, {size_text(armed.needed)} needed"),
                ("network", ", ".join(armed.ways)),
                ("collectors", ", ".join(armed.collectors)),
                ("command line", armed.command_line),
            ]
        )


def _members(armed: Armed) -> dict[str, Any]:
    return {
        "kernel": armed.release,
        "armed": time_text(armed.at),
        "packed_bytes": armed.packed,
        "reserved_bytes": armed.reserved,
        "needed_bytes": armed.needed,
        "ways": list(armed.ways),
        "collectors": list(armed.collectors),
        "command_line": armed.command_line,
    }
