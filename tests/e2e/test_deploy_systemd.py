"""The units, under a real systemd: installed as docs/deploy.md says, booted, used, and broken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from netdump.image.rehearsal import tiny_core
from tests.e2e import overlay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

UNITS = ("netdump-collector.service", "netdump-arm.service")
EXPOSURE_MAX = 2.0  # of systemd-analyze security: 0 is nothing, 10 all
# kexec is not for containers: here arming is a line in a file. What it really does: tests/e2e/test_crash.py.
ARM_INSTEAD = """\
[Service]
ExecStart=
ExecStart=/bin/sh -c 'echo armed >>/root/armed'
ExecReload=
ExecReload=/bin/sh -c 'echo again >>/root/armed; while [ -e /root/slow ]; do sleep 0.1; done'
ExecStop=
ExecStop=touch /root/disarmed
"""
# An ordinary service, which is stopped whenever netdump-arm.service must not be.
WITNESS = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=rm -f /root/stopped
ExecStop=touch /root/stopped
[Install]
WantedBy=multi-user.target
"""
# As rescue.target, without its shell. What it is ordered after has been stopped, if it is, when its start is over.
ALONE = """\
[Unit]
Requires=sysinit.target
After=sysinit.target test-witness.service netdump-arm.service
AllowIsolate=yes
"""
SHORT_WAIT = "[Service]\nExecStartPre=\nExecStartPre=sleep 1\n"
RENEW_NOW = "[Service]\nExecStart=\nExecStart=netdump renew --collector /var/lib/netdump\n"
HELPERS = """\
until_true() {
    set +x
    for _ in $(seq 600); do if "$@"; then set -x; return 0; fi; sleep 0.1; done
    echo "in vain: $*" >&2
    exit 1
}
rearmed() { [ "$(systemctl show -p ActiveState --value netdump-rearm.service)" = inactive ]; }
armed() { [ "$(wc -l </root/armed)" -eq "$1" ]; }
settled() { armed "$1" && rearmed; } # a path unit sees nothing while what it has started runs
told() { systemctl show -p ExecMainStartTimestampMonotonic --value netdump-rearm.service; }
told_again() { [ "$(told)" != "$last_told" ] && rearmed; }
collector() { runuser -u netdump -- netdump "$@"; }
"""
COLLECTOR = """\
until_true systemctl is-active -q netdump-collector.service
systemctl is-active netdump-collector.service
systemctl show -p Type -p User -p NRestarts -p WatchdogUSec -p LimitNOFILE netdump-collector.service
token=$(collector token /var/lib/netdump --host web1 --json | grep -o 'ndt1[^"]*')
netdump enroll https://localhost:7462 --token "$token" --out /etc/netdump/client.toml
netdump send --drill /root/core
kill -KILL "$(systemctl show -p MainPID --value netdump-collector.service)"
restarted() { [ "$(systemctl show -p NRestarts --value netdump-collector.service)" = 1 ]; }
until_true restarted
until_true systemctl is-active -q netdump-collector.service
before=$(cksum </var/lib/netdump/pki/collector.crt)
systemctl start netdump-renew-collector.service
[ "$before" != "$(cksum </var/lib/netdump/pki/collector.crt)" ] || exit 1
netdump status /var/lib/netdump
mkdir -p /var/lib/prometheus/node-exporter
chown nobody /var/lib/prometheus /var/lib/prometheus/node-exporter
systemctl start netdump-metrics.service
runuser -u nobody -- grep -x 'netdump_up 1.0' /var/lib/prometheus/node-exporter/netdump.prom
"""
GOES_DOWN = """\
until_true systemctl is-active -q netdump-arm.service
until_true systemctl is-active -q test-witness.service
systemctl isolate test-alone.target
[ -e /root/stopped ]
systemctl is-active netdump-arm.service
systemctl start test-witness.service
armed 1
# What else doctor finds here is of no interest: the bundle is empty.
netdump doctor | grep '^ok  *next boot: netdump-arm.service arms this machine'
systemctl disable -q netdump-arm.service
netdump doctor | grep '^warning  *next boot: netdump-arm.service is not enabled'
"""
HOST = """\
systemctl is-active netdump-rearm.path netdump-renew.timer netdump-send-saved.timer
# Asked for at boot, before there was a bundle: the bundle is enough.
until_true settled 1
systemctl start netdump-send-saved.service
[ ! -e /var/crash/netdump-20260101T000000.d31.vmcore ]
collector list --root /var/lib/netdump --json
# An interface comes up, by each of the three that tell; a burst is one change.
IFACE=eth0 /etc/network/if-up.d/netdump
/etc/NetworkManager/dispatcher.d/90-netdump eth0 dhcp4-change
IFACE=eth0 /etc/networkd-dispatcher/routable.d/90-netdump
until_true settled 2
/etc/NetworkManager/dispatcher.d/90-netdump eth0 down
IFACE=lo /etc/network/if-up.d/netdump
# The bundle is renewed, which its folder tells.
netdump renew --config /etc/netdump/client.toml
until_true settled 3
# The daily round: too young to be renewed, armed all the same.
systemctl start netdump-renew.service
until_true settled 4
# Drivers were built for the running kernel.
touch "/lib/modules/$(uname -r)/modules.dep"
until_true settled 5
# systemd-networkd has changed something.
mkdir -p /run/systemd/netif
echo OPER_STATE=routable >/run/systemd/netif/state
until_true settled 6
# It changes again while that reload still goes on: there is another one after it.
touch /root/slow
echo OPER_STATE=degraded >/run/systemd/netif/state
until_true settled 7
last_told=$(told)
echo OPER_STATE=routable >/run/systemd/netif/state
until_true told_again
armed 7
rm /root/slow
until_true settled 8
[ ! -e /root/disarmed ]
systemctl stop netdump-arm.service
[ -e /root/disarmed ]
IFACE=eth0 /etc/network/if-up.d/netdump
until_true rearmed
armed 8
systemctl stop netdump-collector.service
systemctl show -p Result -p ExecMainStatus netdump-collector.service
"""
REMOVED = """\
echo nothing >/var/crash/netdump-2.vmcore
! systemctl start netdump-send-saved.service
systemctl is-failed netdump-send-saved.service
sh /opt/netdump/share/netdump/install.sh --remove collector host
[ -z "$(systemctl list-units --failed --plain --no-legend 'netdump-*')" ]
[ -z "$(systemctl list-unit-files --no-legend 'netdump-*')" ]
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[overlay.Overlay]:
    overlay.needs("systemd-nspawn", "systemd-analyze", "systemd-sysusers")
    with overlay.Overlay() as copy:
        copy.install_netdump(tmp_path_factory.mktemp("wheel"))
        installed = copy.run("sh", f"{overlay.PREFIX}/share/netdump/install.sh", "collector", "host")
        assert "install.sh:" not in installed.stderr, installed.stderr  # nobody runs there whom it could have told
        yield copy


def test_systemd_finds_nothing_wrong(copy: overlay.Overlay) -> None:
    units = sorted(path.name for path in (copy.root / "etc/systemd/system").glob("netdump-*"))
    assert len(units) == 12
    verified = copy.run("systemd-analyze", "verify", "--man=no", *units)
    ours = [line for line in (verified.stdout + verified.stderr).splitlines() if "netdump" in line]
    assert ours == []


def test_the_collector_is_hardened(copy: overlay.Overlay) -> None:
    shown = copy.run("systemd-analyze", "security", "--offline=yes", "--no-pager", "netdump-collector.service").stdout
    (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert float(score) <= EXPOSURE_MAX, shown


@pytest.mark.parametrize(("action", "runs"), [("online", True), ("offline", True), ("add", False)])
def test_a_cpu_that_comes_or_goes_arms_again(copy: overlay.Overlay, action: str, runs: bool) -> None:
    """As udevd tells what it would do."""
    tested = copy.run("udevadm", "test", f"--action={action}", "/sys/devices/system/cpu/cpu0", check=False)
    assert ("restart netdump-rearm.service" in tested.stdout + tested.stderr) == runs, tested.stderr


def test_a_machine_that_goes_down_stays_armed(copy: overlay.Overlay) -> None:
    """Its last script ends in exit.target, which takes the same way down as reboot.target and poweroff.target."""
    copy.write("/etc/systemd/system/netdump-arm.service.d/test.conf", ARM_INSTEAD)
    copy.write("/etc/systemd/system/test-witness.service", WITNESS)
    copy.write("/etc/systemd/system/test-alone.target", ALONE)
    copy.write("/etc/systemd/system/test-script.service.d/test.conf", "[Unit]\nIgnoreOnIsolate=yes\n")
    copy.write("/etc/netdump/client.toml", "")
    try:
        copy.boot(HELPERS + GOES_DOWN, ("netdump-arm.service", "test-witness.service"))
    finally:  # the next test begins without
        for left in ("etc/netdump/client.toml", "root/armed"):
            (copy.root / left).unlink(missing_ok=True)
        copy.run("systemctl", "disable", "-q", *UNITS, "test-witness.service")
    assert (copy.root / "root/stopped").exists()
    assert not (copy.root / "root/disarmed").exists()


def test_a_collector_and_a_host(copy: overlay.Overlay, tmp_path: Path) -> None:
    copy.run("runuser", "-u", "netdump", "--", "netdump", "init", "/var/lib/netdump", "--name", "localhost")
    # The copy of the machine lies in memory, where there is less room than a collector wants to see.
    settings = "[space]\nmin_free_bytes = 16777216\nadmit_free_bytes = 16777216\n"
    (copy.root / "var/lib/netdump/config.toml").write_text(settings)
    core = tiny_core()
    (copy.root / "root/core").write_bytes(core)
    (copy.root / "var/crash").mkdir(parents=True, exist_ok=True)
    (copy.root / "var/crash/netdump-20260101T000000.d31.vmcore").write_bytes(core[:-1] + b"\xff")
    copy.write("/etc/systemd/system/netdump-arm.service.d/test.conf", ARM_INSTEAD)
    copy.write("/etc/systemd/system/netdump-rearm.service.d/test.conf", SHORT_WAIT)
    copy.write("/etc/systemd/system/netdump-renew-collector.service.d/test.conf", RENEW_NOW)
    release = copy.run("uname", "-r").stdout.strip()
    copy.write(f"/lib/modules/{release}/modules.dep", "")
    out = copy.boot(HELPERS + COLLECTOR + HOST + REMOVED, UNITS)
    assert "User=netdump" in out
    assert "Type=notify" in out
    assert "WatchdogUSec=1min" in out
    assert out.count('"state": "complete"') == 2, out
    assert "Result=success\nExecMainStatus=0" in out or "ExecMainStatus=0\nResult=success" in out
