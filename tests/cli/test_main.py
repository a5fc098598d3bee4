"""The group of commands: finding, reporting, exit statuses."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from netdump import __version__
from netdump.cli import main as group
from netdump.errors import DependencyError, DumpNotFoundError, NotACollectorError, OutputError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "netdump", *arguments], capture_output=True, text=True, timeout=60)


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert __version__ in done.stdout


def test_every_command_has_help() -> None:
    context = click.Context(group.netdump_command, info_name="netdump")
    assert isinstance(group.netdump_command, group.Commands)
    for name in group.netdump_command.list_commands(context):
        command = group.netdump_command.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert command.short_help, f"{name}: click would cut its first sentence on a narrow terminal"
        assert re.search(rf"\b{name}\b", str(group.netdump_command.help)), f"{name}: for whom is it?"


def test_what_help_does_not_wrap_is_narrow() -> None:
    """But for examples, which are shown as they are typed."""
    context = click.Context(group.netdump_command, info_name="netdump")
    for name in group.netdump_command.list_commands(context):
        command = group.netdump_command.get_command(context, name)
        assert command is not None
        for block in inspect.cleandoc(str(command.help)).split("\b\n")[1:]:
            lines = block.partition("\n\n")[0].splitlines()
            assert lines[0].startswith("Example") or max(map(len, lines)) <= 78, (name, lines)


def test_pages_that_help_names_are_installed_where_it_says() -> None:
    root = Path(__file__).parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"]["docs"] == "share/netdump/docs"
    assert wheel["shared-data"]["SECURITY.md"] == "share/netdump/SECURITY.md"  # named by these as ../SECURITY.md
    copied = re.findall(r"^COPY (.*) ", (root / "deploy/container/Containerfile").read_text(), re.MULTILINE)
    assert {*wheel["shared-data"], "netdump"} <= set(" ".join(copied).split())
    assert "docs/*.md are in share/netdump," in " ".join(run("--help").stdout.split())
    named: set[str] = set()
    for command in ("serve", "estimate", "list", "send"):
        named.update(re.findall(r"docs/\w+\.md", run(command, "--help").stdout))
    assert named == {"docs/client.md", "docs/config.md", "docs/errors.md", "docs/filter.md"}
    assert all((root / name).is_file() for name in named)


def test_unknown_command() -> None:
    done = run("no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


def test_a_command_that_is_nearly_one() -> None:
    done = run("lst")
    assert done.returncode == 2
    assert "There is no command 'lst'; did you mean list?" in done.stderr


def test_an_output_that_takes_nothing() -> None:
    for arguments in (["--help"], ["init", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "netdump", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )
        assert (done.returncode, done.stderr) == (
            OutputError.exit_status,
            "netdump: the output cannot be written: No space left on device; see where it is redirected to\n",
        )


def test_any_other_fault_of_the_system_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(group.netdump_command, "main", fail)
    with pytest.raises(PermissionError):
        group.main(["list"])


def test_an_error_is_one_sentence_and_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DumpNotFoundError("no dump starts with beef")

    monkeypatch.setattr(group.netdump_command, "main", fail)
    assert group.main(["show", "beef", "--json"]) == DumpNotFoundError.exit_status
    out, err = capsys.readouterr()
    assert err == "netdump: no dump starts with beef\n"
    assert json.loads(out) == {"error": {"code": "not-found", "message": "no dump starts with beef"}}


def test_a_wrong_command_line_is_told_as_json_too() -> None:
    done = run("list", "--json", "--limit", "0")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert "0 is not in the range" in json.loads(done.stdout)["error"]["message"]
    assert "0 is not in the range" in done.stderr
    assert run("list", "--limit", "0").stdout == ""


def test_an_interrupt_is_told_as_json_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise click.exceptions.Abort

    monkeypatch.setattr(group.netdump_command, "main", interrupt)
    assert group.main(["list", "--json"]) == group.INTERRUPTED_STATUS
    out, err = capsys.readouterr()
    assert err == "netdump: interrupted\n"
    assert json.loads(out)["error"]["code"] == "interrupted"


def test_a_failure_whose_json_nobody_takes_keeps_its_status() -> None:
    command = [sys.executable, "-m", "netdump", "certificates", "/nowhere", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    first, second = done.stderr.splitlines()
    assert (done.returncode, first[:24]) == (NotACollectorError.exit_status, "netdump: /nowhere is not")
    assert second == "netdump: the JSON object cannot be written: No space left on device"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()) == (NotACollectorError.exit_status, [first])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sqlalchemy", "'.[server]' in a checkout of netdump, or its wheel with [server] (docs/deploy.md)"),
        ("prometheus_client.core", "'.[server]' in a checkout of netdump, or its wheel with [server] (docs/deploy.md)"),
        ("zstandard.backend_c", ". in a checkout of netdump, or its wheel (docs/deploy.md)"),
    ],
)
def test_missing_libraries_are_named(
    name: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(group.netdump_command, "main", fail)
    assert group.main(["list", "--root", "x"]) == DependencyError.exit_status
    assert capsys.readouterr().err == (
        f"netdump: this command needs {name}, which is not installed: pip install {remedy}\n"
    )


def test_any_other_missing_module_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'nonsense'", name="nonsense")

    monkeypatch.setattr(group.netdump_command, "main", fail)
    with pytest.raises(ModuleNotFoundError):
        group.main(["list"])


def test_the_list_of_commands_does_without_what_some_of_them_lack() -> None:
    script = (
        "import sys\nfor name in ('zstandard', 'sqlalchemy', 'cryptography'): sys.modules[name] = None\n"
        "from netdump.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)

    listed = run("--help")
    assert listed.returncode == 0
    assert "fetch " in listed.stdout
    assert "(needs zstandard: pip install" in " ".join(listed.stdout.split())
    used = run("fetch", "--help", "3f9c")
    assert (used.returncode, used.stdout) == (DependencyError.exit_status, "")
    assert "needs zstandard, which is not installed: pip install . in a checkout of netdump" in used.stderr


@pytest.mark.parametrize("arguments", [["list", "--help"], ["--help"], ["--version"]])
def test_a_reader_that_has_gone_ends_a_command_by_sigpipe(arguments: list[str]) -> None:
    """As of other tools: in silence, and not with a status of a failed command."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "netdump", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")
