"""A bundle, and a machine with one kernel and one network device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.closure import Closure, PythonFile
from netdump.image.init.netlink import AddressState, LinkState, RouteState
from netdump.image.network import Snapshot
from tests.client.certificates import Authority
from tests.image.modules import write_tree
from tests.image.sysfs import add_network_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASE = "6.1.0-test"
MAC = "52:54:00:12:34:56"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "client.toml"
    ca, certificate, key = Authority().credentials()
    path.write_text(
        'version = 1\nname = "web1"\nrole = "host"\ncollectors = ["192.0.2.9:7461", "collector.invalid"]\n'
        f"[tls]\nca = '''{ca}'''\ncertificate = '''{certificate}'''\nkey = '''{key}'''\n"
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def few_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one program that images of this test hold."""
    return use_few_programs(tmp_path, monkeypatch)


def use_few_programs(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Have images hold one program, the file that this returns, in place of all that the client needs: that takes
    seconds. For what is not about the programs; test_build, test_closure, test_tree and the drill have them all.
    """
    program = folder / "program"
    program.write_bytes(b"an interpreter")
    closure = Closure((PythonFile("interpreter", "usr/bin/python3", program, executable=True),), ())
    patch.setattr("netdump.image.build.find_closure", lambda _: closure)
    return program


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a machine. Its network is what the kernel would say of it."""
    root = tmp_path_factory.mktemp("machine")
    modules = {"virtio": (), "virtio_net": ("virtio",), "bonding": (), "ipv6": (), "af_packet": ()}
    # As in Debian 13's cloud kernel: the driver of the bus is built in, and for its parameters a module to /sys.
    write_tree(root, RELEASE, modules, builtin="kernel/drivers/virtio/virtio_pci.ko\n")
    add_network_device(root / "sys", "eth0", ("virtio_pci", "virtio_net"))
    link = LinkState(2, "eth0", MAC, MAC, 1, True, True, 1500, "", 0, 0, 0)
    address = AddressState(2, "192.0.2.7", 24, 0, True, False)
    route = ("192.0.2.9", RouteState(2, "", "192.0.2.7"))
    snapshot = Snapshot((link,), (address,), (route,), (), root / "sys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("netdump.image.build.take_snapshot", lambda *_: snapshot)
        yield root
