"""What people and machines write as text: settings, kernel command lines, plans, addresses; and DHCP answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from netdump.client.address import parse_address as parse_collector
from netdump.client.config import load_config
from netdump.client.words import parse_words
from netdump.errors import AddressError, BadNameError, ConfigError
from netdump.image.init.dhcp import pack_message, parse_message
from netdump.image.init.plan import FIRST_LINE, PlanError, parse_plan
from netdump.image.init.words import heed
from netdump.pki.endpoint import Endpoint
from netdump.pki.names import check_name, parse_collector_name
from netdump.server.audit import escaped
from netdump.server.config import default_text, load, parse_address
from netdump.vmcore.oldmem import ElfcoreHeader
from tests.fuzz.target import MIB, Target
from tests.fuzz.targets_trust import office
from tests.image.init.test_dhcp import ACK, MAC, TRANSACTION, answer

_PLAN: Final = f"""{FIRST_LINE}
deadline 600
save-deadline 1800
final reboot
failure halt
watchdog 60
module drivers/net/virtio_net.ko
link eth0 ether mac=52:54:00:12:34:56 mtu=1500
link bond0 bond lower=eth0 option=mode=1
link vlan5 vlan lower=bond0 vlan=5
way vlan5 static address=192.0.2.7/24 route=0.0.0.0/0,192.0.2.1 server=192.0.2.53
way eth0 dhcp
collector collector.example 7461
save ext4 01234567-89ab-cdef var/crash
"""


def _config(data: bytes) -> None:
    path = office().folder.parent / "config.toml"
    path.write_bytes(data)
    load(path)


def _command_line(data: bytes) -> None:
    """Words are left out with a warning, never an error: a dump is worth more than a complaint."""
    line = data.decode("utf-8", "replace")
    words = parse_words(line)
    config = load_config(str(office().bundle), words, {})
    assert len(config.warnings) <= len(words) + 2
    path = office().folder.parent / "cmdline"
    path.write_bytes(data)
    plan = heed(parse_plan(_PLAN), str(path))
    assert plan.deadline > 0
    assert plan.collectors
    for word in line.split()[:4]:
        with suppress(ValueError):
            ElfcoreHeader.parse(word)


def _plan(data: bytes) -> None:
    parse_plan(data.decode("utf-8", "replace"))


def _addresses(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for parse in (parse_collector, parse_address, Endpoint.parse, parse_collector_name, check_name):
        with suppress(ConfigError, AddressError, BadNameError):
            parse(text)
    shown = escaped(text)
    assert shown.isascii() or "…" in shown
    assert not any(ord(char) < 32 or ord(char) == 127 for char in shown)


def _dhcp(data: bytes) -> None:
    reply = parse_message(data, TRANSACTION, MAC)
    assert reply is None or 0 <= reply.lease.prefix <= 32


def _command_lines() -> list[bytes]:
    return [
        b'root=/dev/sda1 netdump.level=31 netdump.collectors=[::1]:1,b netdump.remark="two words" quiet elfcorehdr=0x1',
        b"netdump.drill netdump.threads=0x9 netdump.retry_min=1e400 netdump.deadline=nan -- netdump.level=1",
        b"1K@0x3f000000 elfcorehdr=0x9f000@64K netdump.=1 netdump.level=" + b"9" * 5000,
    ]


def _configs() -> list[bytes]:
    text = default_text()
    live = "\n".join(line.removeprefix("#") if " = " in line else line for line in text.splitlines())
    return [text.encode(), live.encode(), b"[limits]\nconnections = " + b"9" * 5000, b"a = " + b"[" * 3000]


def _names() -> list[bytes]:
    return [
        b"collector.example:7461",
        b"[fe80::1%eth0]:1",
        b"*:0",
        b"https://[2001:db8::1]:7462/",
        b"web1",
        b"\x1b[31m",
    ]


def _leases() -> list[bytes]:
    options = ACK + bytes((1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 6, 8)) + bytes(8)
    routes = bytes((121, 13, 24, 10, 0, 0, 192, 0, 2, 9, 0, 192, 0, 2, 1))
    return [answer(options + routes + b"\xff"), answer(ACK), pack_message(1, TRANSACTION, MAC)]


TARGETS = (
    Target("config", _config, (ConfigError,), _configs, bytes_max=1 << 14, memory_max=16 * MIB, rounds=100),
    Target("command-line", _command_line, (), _command_lines, rounds=150),
    Target("plan", _plan, (PlanError,), lambda: [_PLAN.encode()]),
    Target("addresses", _addresses, (), _names, bytes_max=1024),
    Target("dhcp", _dhcp, (), _leases, bytes_max=1500),
)
