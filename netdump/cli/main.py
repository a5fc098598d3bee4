"""The group of all commands: finds them by file name, loads only the one that is asked for, and reports errors.

A command module is `netdump/cli/cmd_<name>.py` and exposes `command`. It raises NetdumpError for everything that a user
may meet; what that looks like on the terminal, and the exit status, is decided here alone.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

import netdump.cli
from netdump import __version__
from netdump.errors import DependencyError, NetdumpError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "cmd_"
INTERRUPTED_STATUS = 130  # 128 + SIGINT, as shells report it

# Top-level packages that only the collector needs, and what to install when one is missing.
SERVER_EXTRA = {"aiofiles", "alembic", "h11", "prometheus_client", "sqlalchemy", "starlette", "structlog", "uvicorn"}
# Those that every command may need.
CLIENT_NEEDS = {"cryptography", "rich", "zstandard"}
# The modules that write to standard output for commands.
WRITERS = {"click.utils", "netdump.cli.piping", "rich.console"}


def _broken(name: str, error: ModuleNotFoundError) -> click.Command:
    """What stands in for a command that lacks a package: the list of all commands has it, and using it says why."""

    def complain(arguments: tuple[str, ...]) -> None:  # noqa: ARG001
        raise error

    return click.Command(
        name,
        callback=complain,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        short_help=f"({_missing(error)})".replace(", which is not installed", ""),
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )


def _missing(error: ModuleNotFoundError) -> str:
    """Which package is missing, and how to get it. Raises error if it is none of ours."""
    top = (error.name or "").partition(".")[0]
    if top not in SERVER_EXTRA | CLIENT_NEEDS:
        raise error
    what, extra = ("'.[server]'", " with [server]") if top in SERVER_EXTRA else (".", "")
    how = f"pip install {what} in a checkout of netdump, or its wheel{extra} (docs/deploy.md)"
    return f"needs {error.name}, which is not installed: {how}"


class Commands(click.Group):
    """A group whose members are the cmd_*.py files beside this one, imported when first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name all commands, sorted; hyphens stand for the underscores of file names."""
        names = [module.name for module in pkgutil.iter_modules(netdump.cli.__path__)]
        return sorted(name.removeprefix(PREFIX).replace("_", "-") for name in names if name.startswith(PREFIX))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None if there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            module = import_module(f"netdump.cli.{PREFIX}{cmd_name.replace('-', '_')}")
        except ModuleNotFoundError as error:
            return _broken(cmd_name, error)
        if not gc.isenabled():  # netdump/__main__.py
            gc.freeze()
            gc.enable()
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that args begin with; of one that there is not, say which are like it."""
        names = self.list_commands(ctx)
        if args[0] not in names:
            from difflib import get_close_matches  # noqa: PLC0415 - commands that there are do without

            alike = get_close_matches(args[0], names, n=3)
            if alike:
                ctx.fail(f"There is no command {args[0]!r}; did you mean {' or '.join(alike)}?")
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the group's own part of a command line, and print its help or version if it asks for that."""
        with _ended_by_sigpipe():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _ended_by_sigpipe():
            return super().invoke(ctx)


@contextmanager
def _ended_by_sigpipe() -> Iterator[None]:
    """End as other tools do, by SIGPIPE and in silence, when who reads the output has gone.

    click would make it status 1, as if the command had failed.
    """
    try:
        yield
    except BrokenPipeError as error:
        if not _of_output(error):
            raise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
        raise  # only if the signal is blocked


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="netdump")
def netdump_command() -> None:
    """Carry kernel crash dumps over the network: resumable, verified, indexed.

    \b
      collector  init, serve, status, token, certificates, renew, revoke, reindex
      host       enroll, renew, arm, disarm, image, doctor, estimate, send
      analyst    enroll, renew, list, show, log, pages, fetch, verify
      operator   what an analyst has, and delete

    `netdump demo` shows all of it on this machine in a minute. Exit statuses are listed in docs/errors.md; the pages
    docs/*.md are in share/netdump, beside the folder bin that the command is installed in.
    """


def main(arguments: list[str]) -> int:
    """Run one command line (without the program's name). Returns the exit status."""
    try:
        result = netdump_command.main(arguments, prog_name="netdump", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("netdump: interrupted", err=True)
        if "--json" in arguments:
            print_failure("interrupted", "interrupted")
        return INTERRUPTED_STATUS
    except click.ClickException as error:
        error.show()
        if "--json" in arguments:
            print_failure("usage", error.format_message())
        return error.exit_code
    except NetdumpError as error:
        report(error, as_json="--json" in arguments)
        return error.exit_status
    except ModuleNotFoundError as error:
        return report_missing(error, arguments)
    except OSError as error:
        return report_output(error)
    return result if isinstance(result, int) else 0


def _of_output(error: OSError) -> bool:
    """Whether it is standard output that the error is about."""
    inside = error.__traceback__
    while inside is not None and inside.tb_next is not None:
        inside = inside.tb_next
    return inside is not None and inside.tb_frame.f_globals.get("__name__") in WRITERS


def report_missing(error: ModuleNotFoundError, arguments: list[str]) -> int:
    """Tell the user which package a command line lacks. Returns the exit status; raises error if it is none of ours."""
    missing = DependencyError(f"this command {_missing(error)}")
    report(missing, as_json="--json" in arguments)
    return missing.exit_status


def report_output(error: OSError) -> int:
    """Tell the user that standard output takes no more. Returns the exit status; raises error if it is about another
    file: commands make errors of ours of those.
    """
    if not _of_output(error):
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter fails once more at its end
    failure = OutputError(f"the output cannot be written: {error.strerror}; see where it is redirected to")
    report(failure, as_json=False)
    return failure.exit_status


def report(error: NetdumpError, *, as_json: bool) -> None:
    """Tell the user of an error: a sentence on stderr, and the same as an object on stdout if JSON was asked for."""
    click.echo(f"netdump: {error}", err=True)
    if as_json:
        print_failure(error.code, str(error))


def print_failure(code: str, message: str) -> None:
    """Print what a command that fails says with --json. If nobody takes it, the failure keeps its own exit status."""
    try:
        click.echo(json.dumps({"error": {"code": code, "message": message}}))
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter fails once more at its end
        if not isinstance(error, BrokenPipeError):  # where nobody reads, nobody is told
            click.echo(f"netdump: the JSON object cannot be written: {error.strerror}", err=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
