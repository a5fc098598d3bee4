"""What the units say about netdump is true."""

from __future__ import annotations

import re
from pathlib import Path

from netdump.errors import (
    ArmError,
    BundleError,
    ConfigError,
    ConfigMissingError,
    ImageError,
    NetdumpError,
    NetworkPlanError,
    NotArmedError,
)
from netdump.index.record import State
from netdump.server.metrics import exposition
from netdump.server.status import TOPICS, Report
from tests.server.test_status import STATUS

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEMD = DEPLOY / "systemd"


def family(error: type[NetdumpError]) -> set[type[NetdumpError]]:
    return {error}.union(*(family(each) for each in error.__subclasses__()))


def test_arming_is_tried_again_only_for_the_network() -> None:
    unit = (SYSTEMD / "netdump-arm.service").read_text()
    (line,) = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    final = {ConfigError, ConfigMissingError, BundleError} | family(ImageError) | family(ArmError)
    final -= {NetworkPlanError, NotArmedError}  # the network may come; only `netdump arm --show` finds nothing loaded
    assert {int(word) for word in line.split()} == {2} | {error.exit_status for error in final}


def test_a_renewal_ends() -> None:
    """Of a oneshot systemd waits for the end for ever, and netdump for an answer as long as something of it comes."""
    assert "\nTimeoutStartSec=10min\n" in (SYSTEMD / "netdump-renew.service").read_text()


def test_a_shutdown_leaves_the_machine_armed() -> None:
    """What is required and stopped takes along who requires it: targets by shutdown.target, mounts by umount.target.

    PrivateTmp= requires the mount of /var/tmp (systemd src/core/unit.c, unit_add_exec_dependencies).
    """
    unit = (SYSTEMD / "netdump-arm.service").read_text()
    assert "\nDefaultDependencies=no\n" in unit
    assert "\nIgnoreOnIsolate=yes\n" in unit
    assert "\nExecStop=netdump disarm\n" in unit
    bound = r"^(Requires|Requisite|BindsTo|PartOf|RequiresMountsFor|PrivateTmp|\w+Directory)=.*$"
    assert re.findall(bound, unit, re.MULTILINE) == []


def test_the_collector_waits_for_the_disk_of_its_store() -> None:
    """Also where it is another folder, as the page shows."""
    for text in ((SYSTEMD / "netdump-collector.service").read_text(), (DEPLOY.parent / "docs/deploy.md").read_text()):
        (folder,) = re.findall(r"^ExecStart=netdump serve (.*)$", text, re.MULTILINE)
        assert f"\nRequiresMountsFor={folder}/dumps\n" in text


def test_units_name_units_that_are_here() -> None:
    known = {path.name for path in SYSTEMD.iterdir()}
    for path in SYSTEMD.glob("netdump-*"):
        for name in re.findall(r"netdump-[a-z-]+\.(?:service|path|timer)", path.read_text()):
            assert name in known, f"{path.name}: {name}"
        if path.suffix in {".path", ".timer"}:
            assert path.with_suffix(".service").exists()


def test_alerts_are_about_numbers_that_there_are() -> None:
    rules = (DEPLOY / "monitoring" / "netdump.rules.yml").read_text()
    expressions = re.findall(r"^ +expr: (.*)$", rules, re.MULTILINE)
    named = {name for text in expressions for name in re.findall(r"netdump_\w+", text)}
    written = exposition(Report(STATUS, STATUS.troubles)).decode()
    known = {name for name, _ in re.findall(r"^(netdump_\w+)(\{| )", written, re.MULTILINE)}
    assert named
    assert named <= known
    states = set(re.findall(r'state="(\w+)"', " ".join(expressions)))
    assert states
    assert states <= set(map(str, State))
    page = (DEPLOY.parent / "docs" / "fleet.md").read_text()
    assert set(re.findall(r"`(netdump_\w+)(?:\{\w+\})?`", page)) == known
    topics = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert topics == [*TOPICS]
