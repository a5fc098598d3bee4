"""`netdump send`: arguments, signals and exit status.

Owns the process: what it reads, what it prints, how it ends. Everything that goes wrong becomes one sentence and the
exit status of its class.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from netdump.client.arguments import Misuse, parse_arguments
from netdump.client.config import Settings, load_config
from netdump.client.credentials import client_context
from netdump.client.delivery import Delivery, Environment, Timing
from netdump.client.effort import AdaptiveCompressor, Effort
from netdump.client.image import open_image
from netdump.client.link import open_link
from netdump.client.progress import KMSG, Console, mebibytes
from netdump.client.report import Report
from netdump.client.resolve import Resolver
from netdump.client.stream import Workers
from netdump.client.tally import Tally
from netdump.client.watchdog import GRACE, Watchdog, end_process
from netdump.client.words import COMMAND_LINE, read_words
from netdump.codec import Compressor
from netdump.errors import NetdumpError
from netdump.vmcore.source import source_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netdump.client.address import Address
    from netdump.client.arguments import Arguments
    from netdump.client.config import Config
    from netdump.client.image import Image
    from netdump.client.link import Link
    from netdump.client.stream import ChunkStream, Packer

DEADLINE_CAPTURE = 3600.0  # seconds; a host in its capture kernel must come back
DEADLINE_FILE = 30 * 86400.0
PATIENCE_FILE = 120.0  # seconds; somebody waits for the answer. In a capture kernel patience ends with the deadline.
THREADS_MAX = 3  # by default; each costs 2 MiB
SIGNAL_STATUS = 128  # exit status of a process that ends for signal N is this plus N, as shells report it


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP came. signal: which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def main(argv: Sequence[str]) -> int:
    """Run one `netdump send` (argv: without program and command name). Returns the exit status."""
    try:
        arguments = parse_arguments(argv)
    except Misuse as wrong:
        _print_json("--json" in argv, {"error": {"code": "usage", "message": wrong.message}})
        return 2
    except SystemExit as stop:  # argparse has printed help
        return stop.code if isinstance(stop.code, int) else 2
    console = Console(verbosity=arguments.verbose - arguments.quiet)
    watchdog = Watchdog(end_process)
    restore = _catch_signals()
    try:
        return _send(arguments, console, watchdog)
    except NetdumpError as error:
        console.warn(str(error))
        _print_json(arguments.json, {"error": {"code": error.code, "message": str(error)}})
        return error.exit_status
    except Interrupted as stop:
        name = signal.Signals(stop.signal).name
        console.warn(f"ended by {name}; what the collector has acknowledged is kept: the same command goes on there")
        _print_json(arguments.json, {"error": {"code": "interrupted", "message": f"ended by {name}"}})
        return SIGNAL_STATUS + stop.signal
    except Exception as error:  # a fault of ours; its traceback goes to standard error alone, which is one console
        console.warn(f"the sender itself failed: {type(error).__name__}: {error}")
        raise
    finally:
        console.close()
        restore()
        watchdog.call_off()  # last: until here something may hang


def _send(arguments: Arguments, console: Console, watchdog: Watchdog) -> int:
    started = time.monotonic()
    capture = source_kind(arguments.vmcore, arguments.source, arguments.elfcorehdr) != "file"
    given = arguments.deadline or 0
    watchdog.arm((given if 0 < given <= DEADLINE_FILE else _default_deadline(capture)) + GRACE)  # the rest is refused
    if capture:  # until the settings say otherwise: a damaged bundle too must be seen on every console
        console.configure(Settings().progress_interval, KMSG)
    config = load_config(arguments.config, read_words(COMMAND_LINE), _overrides(arguments))
    settings = config.settings
    timing = _timing(settings, capture, started)
    watchdog.arm(timing.deadline - time.monotonic() + GRACE)
    context = client_context(config.credentials, arguments.config)
    level = settings.level_of(capture=capture)
    image = open_image(
        arguments.vmcore,
        level,
        kind=arguments.source,
        elfcorehdr=arguments.elfcorehdr,
        remark=settings.remark,
        circumstances=arguments.circumstances,
    )
    try:
        kmsg = image.capture if settings.kmsg is None else settings.kmsg
        console.configure(settings.progress_interval, KMSG if kmsg else None)
        for warning in config.warnings:
            console.warn(warning)
        _introduce(image, config, console)
        resolver, tally = Resolver(), Tally()

        def dial(address: Address) -> Link:
            return open_link(
                address,
                context,
                resolver,
                connect_timeout=settings.connect_timeout,
                dns_timeout=settings.dns_timeout,
                deadline=timing.deadline,
            )

        threads = settings.threads or min(len(os.sched_getaffinity(0)), THREADS_MAX)
        open_stream, effort = _streams(image, settings.compression, threads)
        environment = Environment(dial, open_stream, effort=effort)
        delivery = Delivery(image, config.collectors, settings, timing, environment, console=console, tally=tally)
        outcome = delivery.run()
        if image.unfiltered and image.unfiltered not in image.summary.remarks:
            console.warn(f"less was left out than level {image.level} asks for: {image.unfiltered}")
        report = Report(image, config.name, outcome, tally, time.monotonic() - started)
        console.say(report.line())
        _print_json(arguments.json, report.members())
        return 0
    finally:
        image.close()


def _overrides(arguments: Arguments) -> dict[str, object]:
    """The settings that the command line names."""
    names = ("level", "deadline", "drill", "remark")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _default_deadline(capture: bool) -> float:
    return DEADLINE_CAPTURE if capture else DEADLINE_FILE


def _timing(settings: Settings, capture: bool, started: float) -> Timing:
    deadline = settings.deadline or _default_deadline(capture)
    patience = settings.patience or (deadline if capture else PATIENCE_FILE)
    return Timing(started + deadline, patience)


def _introduce(image: Image, config: Config, console: Console) -> None:
    """Say what is sent and where to, before anything can go wrong with it."""
    kernel = f" of Linux {image.summary.release}" if image.summary.release else ""
    node = f" on {image.summary.nodename}" if image.summary.nodename else ""
    where = ", ".join(map(str, config.collectors))
    console.say(f"dump {image.name}: {mebibytes(image.size)} in {image.path}{kernel}{node}, to {where}")
    for remark in image.summary.remarks:
        tell = console.warn if remark == image.unfiltered else console.detail
        tell(remark)


def _streams(image: Image, level: int | None, threads: int) -> tuple[Callable[[int], ChunkStream], Effort | None]:
    """Decide once how chunks are prepared, in line on one CPU, in threads on more, and who chooses the level if any."""
    effort = Effort(threads) if level is None else None

    def make_compressor() -> Packer | None:
        if effort is not None:
            return AdaptiveCompressor(effort)
        return Compressor(level) if level else None

    if threads == 1:
        compressor = make_compressor()
        return lambda start: image.stream(start, compressor, None), effort
    workers = Workers(threads, make_compressor)
    if not workers.count:
        return _streams(image, level, 1)
    return lambda start: image.stream(start, None, workers), effort


def _catch_signals() -> Callable[[], None]:
    """Turn SIGINT, SIGTERM and SIGHUP into Interrupted, once: whoever repeats them does not disturb the end.

    One that is ignored (SIGINT in the background of a script, SIGHUP under nohup) stays so. Returns what undoes it.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def interrupt(number: int, _: object) -> NoReturn:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _print_json(wanted: bool, members: dict[str, object]) -> None:
    """Print one JSON object on stdout if that was asked for."""
    if not wanted:
        return
    import json  # noqa: PLC0415 - five modules that a capture kernel does not need

    try:
        print(json.dumps(members), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # do not complain at exit either
        if not isinstance(error, BrokenPipeError):  # where nobody reads, nobody is told
            os.write(2, f"netdump: the JSON object cannot be written: {error.strerror}\n".encode())
