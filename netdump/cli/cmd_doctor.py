"""`netdump doctor`: whether this machine would deliver its dump."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from netdump.cli.cmd_image import tree_spec
from netdump.cli.image_options import image_options
from netdump.cli.output import ID_DIGITS, duration_text, print_json, printable, size_text
from netdump.errors import ConfigError, DrillError, NotReadyError
from netdump.image.armed import read_record
from netdump.image.arming import is_loaded
from netdump.image.build import ImageSpec
from netdump.image.checkup.examination import Case, case_of, examine
from netdump.image.checkup.finding import State, count, problem, unknown
from netdump.image.checkup.kdump import REBUILD, SETTINGS, TOPIC_OPTIONS, TREE_OPTIONS, find_kdump, tree_options
from netdump.image.checkup.machine import DeniedError, Machine
from netdump.image.commandline import command_line, running_command_line
from netdump.image.drill.exercise import exercise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.image.checkup.finding import Finding

COLOURS = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red", State.UNKNOWN: "cyan"}
WIDTH = max(map(len, State))


@click.command("doctor", short_help="Check whether this machine would deliver its dump, and say what to mend.")
@image_options
@click.option("--drill", is_flag=True, help="Send a small dump, marked as a drill, as the capture kernel would.")
@click.option("--strict", is_flag=True, help="Fail also for warnings, and for what could not be looked at.")
@click.option("--json", "as_json", is_flag=True, help="Print an object whose member `findings` is the list.")
@click.pass_context
def command(context: click.Context, /, *, drill: bool, strict: bool, as_json: bool, **options: Any) -> int:
    """Check everything that a crash dump depends on, without changing anything.

    Kernel configuration, reserved memory, kexec, lockdown and signatures, the capture image and its drivers, what is
    loaded and whether it is up to date, what loads it at the next boot, what makes this machine panic, bundle and
    certificate, every collector over TLS with this host's certificate, the clock, the disk for saving, the watchdog.

    Each line says `ok`, `warning` (works, but less well), `problem` (a panic would leave no dump) or `unknown` (could
    not be looked at: mostly for want of root), what was seen, and what to do. On an armed machine the options are those
    of `netdump arm`; on one that keeps its distribution's kdump, with netdump as its dump target, it is the image of
    that kdump that is looked at, with the options of its settings. Options that are given here ask about an image of
    netdump's own.

    Ends with status 0 if there is no problem, 96 if there is one; --strict: 96 for anything that is not ok.

    --drill checks nothing but tries it: all that the capture image would hold is gathered, its client is started among
    these files, and sends a small dump of the running kernel, with its log, over this machine's network as it is. The
    dump is marked as a drill: `netdump list` and `netdump show` say so, and `netdump delete` removes it. Ends with
    status 97 if it was not delivered. Needs root.

    A drill does not show that the capture kernel starts, finds its network device, and comes back. A real crash does,
    at a time when the machine may be away for some minutes, with its console in view:

    \b
      1. netdump doctor                       no problem is left
      2. netdump arm --append netdump.drill   with the options of this machine
      3. sync; echo c > /proc/sysrq-trigger
      4. netdump arm                          without the mark again

    The console shows the panic, within seconds the capture kernel, then netdump-init, up to "is complete" and the final
    action; the machine comes back by itself, and `netdump list` shows the dump as `complete (drill)`. If not, the last
    netdump-init line says where it stopped, and docs/doctor.md what to look at then.

    \b
    Examples:
      netdump doctor
      netdump doctor --strict --json
      netdump doctor --drill

    See also: netdump arm, netdump image, netdump renew.
    """
    case = _case(context, options)
    if drill:
        _drill(case, as_json=as_json)
        return 0
    findings = []
    for finding in examine(case):
        findings.append(finding)
        if not as_json:
            _print(finding)
    counts = count(findings)
    failed = counts[State.PROBLEM] > 0 or (strict and counts[State.OK] < len(findings))
    if as_json:
        print_json(_report(findings, ready=not failed))
    else:
        click.echo(_summary(findings))
    return NotReadyError.exit_status if failed else 0


def _case(context: click.Context, options: dict[str, Any]) -> Case:
    """What was armed, or what the distribution's kdump sends with, unless the user asks for something else."""
    if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in options):
        return Case(ImageSpec(**options))
    armed = read_record() if is_loaded() else None
    if armed:
        return case_of(armed)
    machine = Machine()
    kdump = find_kdump(machine)
    if kdump is None:
        return Case(ImageSpec(**options), machine=machine)
    try:
        wanted, append = tree_spec(tree_options(machine))
    except ConfigError as error:
        doubt = problem(TOPIC_OPTIONS, f"{TREE_OPTIONS}: {error}", f"correct it in /{SETTINGS}, then {REBUILD}")
    except DeniedError as denied:
        doubt = unknown(TOPIC_OPTIONS, f"{denied.path} is for root's eyes only", "run this as root")
    else:
        return Case(wanted, append, machine=machine, kdump=kdump)
    return Case(ImageSpec(**options), machine=machine, kdump=kdump, doubts=(doubt,))


def _drill(case: Case, *, as_json: bool) -> None:
    """Raises DrillError, and what building an image raises."""
    for doubt in case.doubts:
        raise DrillError(f"{doubt.fact}: {doubt.remedy}")
    line = case.given if case.given is not None else command_line(running_command_line(), case.append)
    done = exercise(case.spec, case.machine.root, line)
    if as_json:
        times = {"gather": done.gather_seconds, "start": done.start_seconds, "send": done.send_seconds}
        seconds = {name: round(value, 3) for name, value in times.items()}
        print_json({"drill": done.report, "core_bytes": done.core_bytes, "seconds": seconds})
        return
    dump = done.report["id"][:ID_DIGITS]
    click.echo(
        f"The drill is delivered: dump {dump}, {size_text(done.core_bytes)}, complete at {done.report['collector']}. "
        f"Gathering the image's files took {duration_text(done.gather_seconds)}, starting its client "
        f"{duration_text(done.start_seconds)}, sending {duration_text(done.send_seconds)}."
    )
    click.echo(f"At the collector: netdump show {dump}, netdump delete {dump}. For a real crash: netdump doctor --help")


def _print(finding: Finding) -> None:
    state = click.style(f"{finding.state:<{WIDTH}}", fg=COLOURS[finding.state])
    click.echo(f"{state}  {printable(finding.topic)}: {printable(finding.fact)}")
    if finding.remedy:
        click.echo(f"{'':<{WIDTH}}  -> {printable(finding.remedy)}")
    sys.stdout.flush()  # the next check may take its time


def _summary(findings: Sequence[Finding]) -> str:
    counts = count(findings)
    parts = []
    for state, one, many in (
        (State.PROBLEM, "problem", "problems"),
        (State.WARNING, "warning", "warnings"),
        (State.UNKNOWN, "thing that could not be looked at", "things that could not be looked at"),
    ):
        if counts[state]:
            parts.append(f"{counts[state]} {one if counts[state] == 1 else many}")
    found = ", ".join(parts) or "nothing to mend"
    if counts[State.PROBLEM]:
        return f"\n{found}: a panic of this machine would leave no dump at a collector."
    return f"\n{found}; `netdump doctor --drill` tries the way to the collector."


def _report(findings: Sequence[Finding], *, ready: bool) -> dict[str, Any]:
    return {
        "ready": ready,
        "counts": {str(state): number for state, number in count(findings).items()},
        "findings": [
            {"topic": each.topic, "state": str(each.state), "fact": each.fact, "remedy": each.remedy or None}
            for each in findings
        ],
    }
