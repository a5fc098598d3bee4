"""What the shell scripts do, with commands that only write down how they were called."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
CALLED = 'echo "${0##*/} $*" >>"$CALLS"\n'


class Stand:
    """A folder of commands that come before all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()

    def command(self, name: str, does: str = "") -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{CALLED}{does}\n")
        path.chmod(0o755)

    def run(self, script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "CALLS": str(self.folder / "calls")}
        command = ["sh", DEPLOY / script, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, umask=0o022, env={**paths, **environment}
        )

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


# send-saved


def saved(stand: Stand, *names: str) -> Path:
    folder = stand.folder / "crash"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"core")
    return folder


def test_saved_dumps_are_sent_and_removed(stand: Stand) -> None:
    names = ("netdump-1.d31.vmcore", "netdump-1.d31.vmcore.lost", "netdump-2.vmcore", "netdump-3.d31.vmcore.partial")
    folder = saved(stand, *names, "vmcore")
    stand.command("netdump")
    done = stand.run("systemd/send-saved", NETDUMP_SAVED=str(folder))
    assert done.returncode == 0
    assert stand.calls == [
        f"netdump send -d 31 {folder}/netdump-1.d31.vmcore",
        f"netdump send {folder}/netdump-2.vmcore",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["vmcore"]


def test_what_is_not_delivered_is_kept(stand: Stand) -> None:
    folder = saved(stand, "netdump-1.vmcore", "netdump-2.vmcore", "netdump-3.vmcore")
    stand.command("netdump", "case $* in *-1.vmcore) exit 31 ;; *-3.vmcore) exit 34 ;; esac")
    done = stand.run("systemd/send-saved", NETDUMP_SAVED=str(folder))
    assert done.returncode == 31  # the first one's
    assert sorted(path.name for path in folder.iterdir()) == ["netdump-1.vmcore", "netdump-3.vmcore"]
    assert "netdump-3.vmcore: not delivered (status 34); it is kept" in done.stderr


def test_what_another_user_has_put_there_is_no_dump(stand: Stand) -> None:
    """Into /var/crash of Ubuntu all may write."""
    folder = saved(stand, "netdump-1.vmcore", "netdump-2.vmcore")
    stand.command("netdump")
    stand.command("stat", "case $* in *-1.vmcore) echo 4711 ;; *) id -u ;; esac")
    assert stand.run("systemd/send-saved", NETDUMP_SAVED=str(folder)).returncode == 0
    assert [call for call in stand.calls if call.startswith("netdump")] == [f"netdump send {folder}/netdump-2.vmcore"]
    assert sorted(path.name for path in folder.iterdir()) == ["netdump-1.vmcore"]


def test_nothing_saved_is_nothing_to_do(stand: Stand) -> None:
    stand.command("netdump")
    assert stand.run("systemd/send-saved", NETDUMP_SAVED=str(stand.folder / "absent")).returncode == 0
    assert stand.calls == []


# rearm-on-network


@pytest.mark.parametrize(
    ("arguments", "interface", "arms"),
    [
        (("eth0", "up"), "", True),  # NetworkManager
        (("eth0", "dhcp4-change"), "", True),
        (("eth0", "dhcp6-change"), "", True),
        (("eth0", "pre-up"), "", False),
        (("eth0", "down"), "", False),
        (("none", "hostname"), "", False),
        (("none", "connectivity-change"), "", False),
        (("lo", "up"), "", False),
        ((), "eth0", True),  # ifupdown, networkd-dispatcher
        ((), "lo", False),
    ],
)
def test_which_changes_of_the_network_count(
    stand: Stand, arguments: tuple[str, ...], interface: str, arms: bool
) -> None:
    stand.command("systemctl")
    environment = {"IFACE": interface} if interface else {}
    assert stand.run("network/rearm-on-network", *arguments, **environment).returncode == 0
    assert stand.calls == (["systemctl --no-block restart netdump-rearm.service"] if arms else [])


# rearm


@pytest.mark.parametrize(
    ("state", "result", "enabled", "condition", "asked", "does"),
    [
        ("active", "success", "enabled", "yes", 7, "try-reload-or-restart"),
        ("activating", "exit-code", "enabled", "yes", 7, "try-reload-or-restart"),  # the network is missing
        ("failed", "exit-code", "enabled", "yes", 7, "start"),
        ("failed", "exit-code", "disabled", "yes", 7, ""),
        ("failed", "signal", "enabled", "yes", 7, ""),  # stopped by hand while it armed
        ("inactive", "success", "enabled", "no", 7, "start"),  # asked for before there was a bundle
        ("inactive", "success", "enabled", "no", 0, ""),
        ("inactive", "success", "disabled", "no", 7, ""),
        ("inactive", "success", "enabled", "yes", 7, ""),  # stopped by hand
    ],
)
def test_what_is_armed_again(
    stand: Stand, *, state: str, result: str, enabled: str, condition: str, asked: int, does: str
) -> None:
    facts = {"ActiveState": state, "Result": result, "UnitFileState": enabled, "ConditionResult": condition}
    facts["ConditionTimestampMonotonic"] = str(asked)
    answers = "".join(f"*={name}\\ --value*) echo {value} ;; " for name, value in facts.items())
    stand.command("systemctl", f'case "$*" in {answers}esac')
    assert stand.run("systemd/rearm").returncode == 0
    assert [call for call in stand.calls if " show " not in call] == (
        [f"systemctl --no-block {does} netdump-arm.service"] if does else []
    )


# rebuild-kdump


@pytest.mark.parametrize(
    ("tools", "builds", "loads"),
    [
        (("kdumpctl", "mkdumprd"), "kdumpctl rebuild", "kdumpctl restart"),
        (("kdump-config", "postinst"), f"postinst {os.uname().release}", "kdump-config reload"),
        (("mkdumprd", "systemctl"), "mkdumprd -f", "systemctl restart kdump.service"),
    ],
)
@pytest.mark.parametrize("loaded", [True, False])
def test_the_image_of_kdump_is_made_again(
    stand: Stand, tools: tuple[str, ...], builds: str, loads: str, *, loaded: bool
) -> None:
    for tool in tools:
        stand.command(tool)
    (stand.folder / "loaded").write_text(f"{loaded:d}\n")
    environment = {"LOADED": str(stand.folder / "loaded"), "POSTINST": str(stand.folder / "bin/postinst")}
    done = stand.run("kdump/rebuild-kdump", **environment)
    assert done.returncode == 0, done.stderr
    assert stand.calls == ([builds, loads] if loaded else [builds])


def test_an_image_of_kdump_that_cannot_be_made_is_not_loaded(stand: Stand) -> None:
    stand.command("kdump-config")
    stand.command("postinst", "exit 3")
    assert stand.run("kdump/rebuild-kdump", POSTINST=str(stand.folder / "bin/postinst")).returncode == 3
    assert stand.calls == [f"postinst {os.uname().release}"]


def test_what_changes_while_the_image_of_kdump_is_made_is_in_the_next(stand: Stand) -> None:
    """The path unit that tells of changes sees none while what it has started runs."""
    bundle, settings = stand.folder / "client.toml", stand.folder / "settings"
    bundle.write_text("old")
    changes = f"case $(wc -l <$CALLS) in 1) echo new >{bundle} ;; 3) echo new >{settings} ;; esac"
    stand.command("kdump-config")
    stand.command("postinst", changes)
    (stand.folder / "loaded").write_text("1\n")
    environment = {name: str(stand.folder / name.lower()) for name in ("LOADED", "SETTINGS")}
    environment |= {"BUNDLE": str(bundle), "POSTINST": str(stand.folder / "bin/postinst")}
    done = stand.run("kdump/rebuild-kdump", **environment)
    assert done.returncode == 0, done.stderr
    assert stand.calls == [f"postinst {os.uname().release}", "kdump-config reload"] * 3


def test_what_never_stops_changing_does_not_keep_it_for_ever(stand: Stand) -> None:
    bundle = stand.folder / "client.toml"
    stand.command("kdump-config")
    stand.command("postinst", f"wc -l <$CALLS >{bundle}.new; mv {bundle}.new {bundle}")
    (stand.folder / "loaded").write_text("1\n")
    environment = {"LOADED": str(stand.folder / "loaded"), "SETTINGS": str(stand.folder / "settings")}
    environment |= {"BUNDLE": str(bundle), "POSTINST": str(stand.folder / "bin/postinst")}
    done = stand.run("kdump/rebuild-kdump", **environment)
    assert done.returncode == 1
    assert "changes again and again" in done.stderr
    assert stand.calls == [f"postinst {os.uname().release}", "kdump-config reload"] * 5


def test_a_machine_without_kdump(stand: Stand) -> None:
    (stand.folder / "bin/sh").symlink_to("/bin/sh")
    done = stand.run("kdump/rebuild-kdump", PATH=f"{stand.folder}/bin")
    assert done.returncode == 1
    assert "make the image of kdump again by hand" in done.stderr


# Hooks of images


@pytest.mark.parametrize(("delivered", "status"), [(0, 1), (1, 0), (2, 0), (137, 0)])
def test_kdump_pre_says_it_the_way_of_kdump_utils(stand: Stand, delivered: int, status: int) -> None:
    """Not 0 ends with the final action, 0 lets kdump-utils dump: so 0 whenever no collector has the dump."""
    stand.command("deliver", f"exit {delivered}")
    script = (DEPLOY / "dracut/99netdump/kdump-pre.sh").read_text()
    assert script.count("if /netdump/deliver") == 1
    here = stand.folder / "kdump-pre.sh"
    here.write_text(script.replace("/netdump/deliver", "deliver"))
    assert stand.run(str(here)).returncode == status
    assert stand.calls == ["deliver "]


HOOK = "initramfs-tools/hooks/netdump"
KDUMP_CONFDIR = "/var/lib/kdump/initramfs-tools"


def test_the_hook_leaves_ordinary_images_alone(stand: Stand) -> None:
    stand.command("netdump")
    assert stand.run(HOOK, "prereqs").stdout.strip() == ""
    assert stand.run(HOOK, CONFDIR="/etc/initramfs-tools", DESTDIR=str(stand.folder), version="6.1").returncode == 0
    assert stand.calls == []


def test_the_hook_refuses_an_image_that_all_can_read(stand: Stand) -> None:
    stand.command("netdump")
    done = stand.run(HOOK, CONFDIR=KDUMP_CONFDIR, DESTDIR=str(stand.folder), version="6.1")
    assert done.returncode == 1
    assert "set UMASK=0077 in /etc/initramfs-tools/conf.d/netdump" in done.stderr
    assert stand.calls == []


# install.sh

KDUMP = {
    "etc/default/netdump": 0o644,
    "etc/systemd/system/netdump-kdump.path": 0o644,
    "etc/systemd/system/netdump-kdump.service": 0o644,
    "etc/systemd/system/netdump-renew.service": 0o644,
    "etc/systemd/system/netdump-renew.timer": 0o644,
    "usr/lib/netdump/rebuild-kdump": 0o755,
}
PARTS = {
    "collector": {
        "etc/systemd/system/netdump-collector.service": 0o644,
        "etc/systemd/system/netdump-metrics.service": 0o644,
        "etc/systemd/system/netdump-metrics.timer": 0o644,
        "etc/systemd/system/netdump-renew-collector.service": 0o644,
        "etc/systemd/system/netdump-renew-collector.timer": 0o644,
        "usr/lib/sysusers.d/netdump.conf": 0o644,
        "usr/lib/tmpfiles.d/netdump.conf": 0o644,
    },
    "host": {
        "etc/default/netdump": 0o644,
        "etc/systemd/system/netdump-arm.service": 0o644,
        "etc/systemd/system/netdump-rearm.service": 0o644,
        "etc/systemd/system/netdump-rearm.path": 0o644,
        "etc/systemd/system/netdump-renew.service": 0o644,
        "etc/systemd/system/netdump-renew.timer": 0o644,
        "etc/systemd/system/netdump-send-saved.service": 0o644,
        "etc/systemd/system/netdump-send-saved.timer": 0o644,
        "etc/udev/rules.d/98-netdump.rules": 0o644,
        "etc/NetworkManager/dispatcher.d/90-netdump": 0o755,
        "etc/networkd-dispatcher/routable.d/90-netdump": 0o755,
        "etc/network/if-up.d/netdump": 0o755,
        "usr/lib/netdump/send-saved": 0o755,
        "usr/lib/netdump/rearm": 0o755,
    },
    "dracut": {
        **KDUMP,
        "usr/lib/dracut/modules.d/99netdump/module-setup.sh": 0o755,
        "usr/lib/dracut/modules.d/99netdump/kdump-pre.sh": 0o755,
    },
    "initramfs-tools": {
        **KDUMP,
        "etc/initramfs-tools/conf.d/netdump": 0o644,
        "etc/initramfs-tools/hooks/netdump": 0o755,
        "etc/initramfs-tools/scripts/init-premount/netdump": 0o755,
    },
}


def installed(root: Path) -> dict[str, int]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in files}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_installed(stand: Stand, tmp_path: Path, part: str) -> None:
    stand.command("systemctl")
    root = tmp_path / "root"
    done = stand.run("install.sh", "--root", root, part)
    assert done.returncode == 0, done.stderr
    assert installed(root) == PARTS[part]
    assert done.stdout.splitlines() == [f"{root}/{path}" for path in done.stdout.replace(f"{root}/", "").split()]
    assert stand.calls == []  # another root's systemd is not ours to tell


def test_every_file_has_its_place(stand: Stand, tmp_path: Path) -> None:
    """What lies in deploy/ is installed, or is for reading."""
    root = tmp_path / "root"
    assert stand.run("install.sh", "--root", root, *PARTS).returncode == 0
    contents = {path.read_bytes() for path in root.rglob("*") if path.is_file()}
    left = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()} - {
        str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file() and path.read_bytes() in contents
    }
    assert {path.split("/")[0] for path in left} == {"install.sh", "container", "examples", "monitoring"}


def test_settings_are_kept(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "root/etc/default/netdump"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    done = stand.run("install.sh", "--root", tmp_path / "root", "host", "dracut")
    assert path.read_text() == "mine"
    assert f"{path} stays as it is" in done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_what_is_removed(stand: Stand, tmp_path: Path, part: str) -> None:
    root = tmp_path / "root"
    assert stand.run("install.sh", "--root", root, part).returncode == 0
    done = stand.run("install.sh", "--root", root, "--remove", part)
    assert (done.returncode, done.stderr) == (0, "")
    assert installed(root) == {}
    assert sorted(done.stdout.splitlines()) == sorted(f"{root}/{path} is removed" for path in PARTS[part])
    assert not (root / "usr/lib/netdump").exists()
    done = stand.run("install.sh", "--root", root, "--remove", part)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_another_part_needs_is_not_removed(stand: Stand, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert stand.run("install.sh", "--root", root, "host", "initramfs-tools").returncode == 0
    assert stand.run("install.sh", "--root", root, "--remove", "host").returncode == 0
    assert installed(root) == PARTS["initramfs-tools"]


def test_changed_settings_are_not_removed(stand: Stand, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert stand.run("install.sh", "--root", root, "host").returncode == 0
    (root / "etc/default/netdump").write_text("mine")
    assert stand.run("install.sh", "--root", root, "--remove", "host").returncode == 0
    assert installed(root) == {"etc/default/netdump": 0o644}


def test_wrong_words(stand: Stand, tmp_path: Path) -> None:
    for words in ((), ("--root",), ("--root", tmp_path), ("hosts",)):
        done = stand.run("install.sh", *words)
        assert (done.returncode, done.stderr.count("usage: ")) == (2, 1)
    assert stand.run("install.sh", "--help").returncode == 0
    assert os.listdir(tmp_path) == ["bin"]


def test_a_wrong_word_installs_nothing(stand: Stand, tmp_path: Path) -> None:
    """Not even what stands before it: a root that comes too late would mean this system."""
    root = tmp_path / "root"
    assert stand.run("install.sh", "--root", root, "host", "--root", root).returncode == 2
    assert not root.exists()
