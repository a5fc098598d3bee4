"""The whole checkup, in the order in which things depend on each other.

Owns that order, and that no check keeps another from being made.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netdump.errors import NetdumpError
from netdump.image.armed import RUN, digests, read_record
from netdump.image.arming import needed_bytes
from netdump.image.build import TOPIC_NETWORK
from netdump.image.checkup import (
    boot,
    capture,
    collectors,
    credentials,
    kdump,
    kernelconfig,
    loading,
    panics,
    reservation,
)
from netdump.image.checkup.finding import problem, unknown
from netdump.image.checkup.machine import DeniedError, Machine
from netdump.image.commandline import command_line
from netdump.image.kernel import find_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from netdump.client.config import Config
    from netdump.image.armed import Armed
    from netdump.image.build import CaptureImage, ImageSpec
    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.kdump import Kdump
    from netdump.image.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Case:
    """What is examined. spec: of the image. append, given: as `netdump arm` takes them. run: where records lie.

    kdump: the distribution's, if it is to send with netdump; else netdump arms this machine. doubts: found before.
    """

    spec: ImageSpec
    append: tuple[str, ...] = ()
    given: str | None = None
    machine: Machine = field(default_factory=Machine)
    run: Path = RUN
    kdump: Kdump | None = None
    doubts: tuple[Finding, ...] = ()

    @property
    def again(self) -> str:
        """What brings a new bundle to the capture kernel."""
        return kdump.REBUILD if self.kdump else "netdump arm --if-changed"


def examine(case: Case) -> Iterator[Finding]:
    """Make every check; findings come as they are made. Raises nothing that a user may meet."""
    machine, spec = case.machine, case.spec
    yield from case.doubts
    kernel, none = _kernel(case)
    if kernel is None:
        yield from none
    else:
        yield from _shown(
            kernelconfig.TOPIC,
            lambda: kernelconfig.check_config(kernel, machine.architecture, capture.memory_kib(machine)),
        )
    config, bundle = credentials.read_bundle(spec.bundle, spec.words)
    yield bundle
    if config is not None:
        yield from credentials.check_dates(config, time.time(), case.again)
    yield from _own(case, kernel) if case.kdump is None else _kept(case, case.kdump, kernel)
    yield from _shown(panics.TOPIC_TRIGGERS, lambda: panics.check_panics(machine))
    yield from _collectors(config, case)


def _own(case: Case, kernel: Kernel | None) -> Iterator[Finding]:
    """Of a machine that netdump arms: from the image to what loads it."""
    machine, spec = case.machine, case.spec
    armed = read_record(case.run)
    image, built = capture.build(machine, spec)
    yield built
    if image is not None:
        yield from _shown(TOPIC_NETWORK, lambda: capture.check_contents(machine, image))
        yield from _shown(capture.TOPIC_SAVE, lambda: capture.check_surroundings(machine, spec))
    yield from _shown(reservation.TOPIC, lambda: reservation.check_reservation(machine, _needed(image)))
    yield from _shown(loading.TOPIC_KEXEC, lambda: loading.check_kexec(machine))
    yield from _shown(loading.TOPIC_LOCKDOWN, lambda: loading.check_lockdown(machine, kernel))
    now = _digests(case, image)
    yield from _shown(loading.TOPIC_LOADED, lambda: loading.check_loaded(machine, armed, now))
    yield from boot.check_rivals(machine, is_armed=armed is not None)
    yield from _shown(boot.TOPIC_BOOT, lambda: boot.check_boot(machine))


def _kept(case: Case, kept: Kdump, kernel: Kernel | None) -> Iterator[Finding]:
    """The same of a machine that keeps its distribution's kdump, which has an image of its own."""
    machine, spec = case.machine, case.spec
    contents, laid_out = capture.lay_out(machine, spec)
    yield laid_out
    if contents is not None:
        yield from _shown(TOPIC_NETWORK, lambda: capture.check_contents(machine, contents))
    yield from _shown(reservation.TOPIC, lambda: kdump.check_memory(machine))
    yield from _shown(loading.TOPIC_KEXEC, lambda: loading.check_kexec(machine))
    yield from _shown(loading.TOPIC_LOCKDOWN, lambda: loading.check_lockdown(machine, kernel))
    yield from _shown(kdump.TOPIC_TARGET, lambda: kdump.check_target(machine, kept))
    yield from _shown(loading.TOPIC_LOADED, lambda: kdump.check_loaded(machine, kept, spec.bundle))
    yield from kdump.check_boot(machine, kept)


def case_of(armed: Armed) -> Case:
    """The case of a machine that is armed: what it was armed with."""
    given = armed.options.get("command_line")
    append = armed.options.get("append")
    return Case(armed.spec(), tuple(append or ()), given if isinstance(given, str) else None)


def _needed(image: CaptureImage | None) -> int | None:
    """The memory that it needs, bytes; None if that cannot be known. Raises DeniedError."""
    if image is None:
        return None
    try:
        kernel = image.kernel.image()
        if not os.access(kernel, os.R_OK):  # some distributions let only root read kernels
            raise DeniedError(str(kernel))
        return needed_bytes(len(image.data), image.raw_bytes, kernel)
    except NetdumpError:
        return None  # `netdump arm` says what is wrong with it


def _kernel(case: Case) -> tuple[Kernel | None, list[Finding]]:
    try:
        return find_kernel(case.spec.kernel, case.machine.root, case.machine.release), []
    except NetdumpError as error:
        topic = kernelconfig.TOPIC
        return None, [problem(topic, str(error), "install the kernel's package with its modules")]


def _digests(case: Case, image: CaptureImage | None) -> dict[str, str] | None:
    """What would be loaded now, None if that cannot be known."""
    if image is None or not case.machine.is_root:  # only root sees the ranges of memory
        return None
    try:
        running = case.machine.text("proc/cmdline") or ""
        line = case.given if case.given is not None else command_line(running, case.append, case.machine.architecture)
        return digests(image, line, case.machine.root)
    except (NetdumpError, DeniedError):
        return None  # `netdump arm` says what is wrong with it


def _collectors(config: Config | None, case: Case) -> Iterator[Finding]:
    if config is None:
        yield unknown(collectors.TOPIC_COLLECTOR, "without a bundle nobody can be reached", "see to the bundle first")
        return
    yield from collectors.check_collectors(config, case.spec.bundle, case.again)
    yield from collectors.check_clock(case.spec.bundle, time.time())


def _shown(topic: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; what only root may read becomes one of them."""
    try:
        yield from check()
    except DeniedError as denied:
        yield unknown(topic, f"{denied.path} is for root's eyes only", "run this as root")
