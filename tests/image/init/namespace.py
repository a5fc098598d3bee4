"""Runs Python in a network name space of its own, with two ends of one cable: v0 and v1.

Files are this machine's: what the init writes for a resolver goes elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

PRELUDE = """
import os, socket, struct, sys, threading, time
from netdump.image.init import network
from netdump.image.init.dhcp import obtain_lease, pack_message
from netdump.image.init.netlink import Netlink
from netdump.image.init.plan import Link, Plan, Route, Way
network.RESOLV_CONF = sys.argv[1] + "/resolv.conf"
netlink = Netlink()
def link(name):
    return next(state for state in netlink.links() if state.name == name)
"""
CABLE = "ip link add v0 type veth peer name v1 && ip link set lo up && exec "


def run_in_namespace(script: str) -> str:
    """Run a script after PRELUDE; return what it prints. Skips where that is not allowed."""
    if os.geteuid() or subprocess.run(["unshare", "-n", "ip", "link"], capture_output=True).returncode:
        pytest.skip("no permission to make a network name space, or no iproute2")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", CABLE + '"$@"', "sh", sys.executable, "-c", PRELUDE + script, folder],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    if "ip: " in done.stderr or "RTNETLINK" in done.stderr:
        pytest.skip(f"no veth here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout
