"""Leases of a real DHCP server (dnsmasq), over a cable between two network name spaces: obtained, renewed, lost."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e import vm

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SERVER = """\
PATH=$PATH:/usr/sbin:/sbin
while ! ip link show v1 >/dev/null 2>&1; do sleep 0.05; done
ip addr add 192.0.2.1/24 dev v1 && ip link set v1 up || exit 1
exec dnsmasq --no-daemon --conf-file=/dev/null --port=0 --interface=v1 --bind-interfaces --dhcp-authoritative \\
    --dhcp-range="$1,2m" --dhcp-leasefile="$2" --no-ping --user=root
"""
CLIENT = """
import atexit, os, signal, subprocess, sys, threading, time
from netdump.image.init import lease, network, renewal
from netdump.image.init.netlink import Netlink
from netdump.image.init.plan import Link, Plan, Way

server_script, folder = sys.argv[1:]
for module in (network, renewal):  # they work on /run otherwise
    for function in ("remember", "forget", "held_lease"):
        if hasattr(module, function):
            vars(module)[function] = lambda *words, real=getattr(lease, function): real(*words, folder + "/held")
network._is = lambda state, link: state.name == "v0"  # a cable of the kernel's own making is no device
network.RESOLV_CONF = folder + "/resolv.conf"
for module in (network, renewal):
    module.say = module.warn = lambda line: show("said", line)

def show(*words):  # a line in one write: dnsmasq's are shown by another thread
    sys.stdout.write(" ".join(map(str, words)).rstrip() + "\\n")
    sys.stdout.flush()

def serve(addresses):
    server = subprocess.Popen(["unshare", "-n", "sh", "-c", server_script, "sh", addresses, folder + "/leases"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    atexit.register(server.kill)
    while os.readlink(f"/proc/{server.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    subprocess.run(f"ip link add v0 type veth peer name v1 netns {server.pid}", shell=True, check=True)
    for line in server.stdout:
        if "IP range" in line:
            break
    else:
        sys.exit("dnsmasq does not start")
    echo = lambda: [show("dnsmasq", line) for line in server.stdout]
    threading.Thread(target=echo, daemon=True).start()
    return server

def expiry():
    return int(open(folder + "/leases").read().split()[0])

def addresses():
    return [state.address for state in netlink.addresses() if state.scope == 0]

server = serve("192.0.2.10,192.0.2.20")
netlink = Netlink()
mac = next(state.mac for state in netlink.links() if state.name == "v0")
plan = Plan(links=(Link("eth0", "ether", mac),), ways=(Way("eth0", "dhcp"),))
assert network.bring_up(plan) == 1  # there is no collector, but the way was gone all the same
first = lease.held_lease(folder + "/held")
show("held", first.interface, first.server, round(first.ends_at - first.renew_at), addresses() == [first.address])
before = expiry()
time.sleep(1.1)  # leases count whole seconds
assert renewal.renew(plan) == 0
second = lease.held_lease(folder + "/held")
show("renewed", second.address == first.address, second.ends_at > first.ends_at + 1, expiry() > before)

server.send_signal(signal.SIGSTOP)
renewal.ANSWER_SECONDS = 2
show("alone", renewal.renew(plan), addresses() == [first.address])
"""
TAKEN_BACK = """
subprocess.run(["ip", "link", "del", "v0"], check=True)
server.kill()
server.wait()
os.unlink(folder + "/leases")
server = serve("192.0.2.100,192.0.2.110")
v0 = next(state for state in netlink.links() if state.name == "v0")
netlink.set_up(v0.ifindex)
netlink.add_address(v0.ifindex, first.address, 24)
plan = Plan(links=(Link("eth0", "ether", v0.mac),), ways=(Way("eth0", "dhcp"),))
lease.remember(second._replace(mac=v0.mac), folder + "/held")
show("back", renewal.renew(plan), addresses()[0].startswith("192.0.2.1"), first.address not in addresses())
server.kill()
"""


def test_a_real_server(tmp_path: Path) -> None:
    assert vm.find("dnsmasq"), "dnsmasq is missing; ./run e2e installs it"
    command = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no permission to make a network name space")
    done = subprocess.run(
        [*command, sys.executable, "-c", CLIENT + TAKEN_BACK, SERVER, str(tmp_path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "held v0 192.0.2.1 60 True" in lines, done.stdout
    assert "renewed True True True" in lines, done.stdout
    assert "alone 1 True" in lines, done.stdout
    assert any("the address stays in use" in line for line in lines)
    assert "back 1 True True" in lines, done.stdout
    assert any(line.startswith("dnsmasq") and "DHCPNAK(v1)" in line for line in lines), done.stdout
    assert any(line.startswith("said") and "takes 192.0.2." in line for line in lines)
