"""Roles are there without anything that takes long to load."""

from __future__ import annotations

import subprocess
import sys

from netdump.pki.role import Role

SCRIPT = """
import sys, netdump.cli.main, netdump.cli.cmd_fetch, netdump.cli.cmd_list, netdump.pki.bundle, netdump.remote.api
print(sorted({'cryptography', 'urllib3', 'rich', 'netdump.pki.authority',
    'netdump.remote.kdump_file', 'netdump.vmcore.kernel'} & set(sys.modules)))
"""


def test_the_roles() -> None:
    assert [*Role] == ["host", "analyst", "operator"]


def test_an_analysts_commands_load_no_more_than_they_need() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
