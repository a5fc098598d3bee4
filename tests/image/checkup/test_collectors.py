"""Against the real collector, in a thread."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from netdump.client.config import load_config
from netdump.client.resolve import Endpoint, Resolver
from netdump.image.checkup import collectors
from netdump.image.checkup.collectors import TOPIC_CLOCK, check_clock, check_collectors
from netdump.image.checkup.finding import State
from netdump.pki import Authority, Role
from netdump.pki.tls import ingest_server_context
from tests.image.checkup.machines import only
from tests.server.rig import Papers, Rig, issue, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.image.checkup.finding import Finding


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("collectors") / "collector"
    make_folder(folder)
    with Rig(folder) as rig:
        yield rig


@pytest.fixture(scope="module")
def papers(rig: Rig) -> Papers:
    return issue(rig.folder, Role.HOST, "web1")


def write_bundle(path: Path, rig: Rig, papers: Papers, *others: str, ca: str = "") -> Path:
    listed = ", ".join(f'"{each}"' for each in (f"localhost:{rig.ingest.port}", *others))
    certificate, mark, key = papers.file.read_text().partition("-----BEGIN PRIVATE KEY-----")
    path.write_text(
        f'version = 1\nname = "{papers.name}"\nrole = "host"\ncollectors = [{listed}]\n'
        f'api = "https://localhost:{rig.api.port}"\n[tls]\n'
        f"ca = '''{ca or (rig.folder / 'pki/ca.crt').read_text()}'''\ncertificate = '''{certificate}'''\n"
        f"key = '''{mark}{key}'''\n"
    )
    path.chmod(0o600)
    return path


def visit(path: Path) -> list[Finding]:
    return list(check_collectors(load_config(str(path), {}, {}), path, "arm anew"))


def test_a_collector_that_takes_our_dumps(rig: Rig, papers: Papers, tmp_path: Path) -> None:
    finding = only(visit(write_bundle(tmp_path / "client.toml", rig, papers)))
    assert (finding.state, finding.topic) == (State.OK, f"collector localhost:{rig.ingest.port}")
    assert re.fullmatch(r"takes this host's dumps; connected in \d+ ms", finding.fact)
    assert not list((rig.folder / "dumps").iterdir())  # a visit leaves nothing behind


def test_an_address_of_a_name_that_is_waited_for_in_vain(
    rig: Rig, papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = [Endpoint(socket.AF_INET, ("127.0.0.1", each)) for each in (silent.getsockname()[1], rig.ingest.port)]
        monkeypatch.setattr(Resolver, "_lookup", lambda *_: found)
        path = write_bundle(tmp_path / "client.toml", rig, papers)
        path.write_text(path.read_text() + "[send]\nconnect_timeout = 0.2\n")
        assert only(visit(path)).state is State.OK
        monkeypatch.setattr(collectors, "SLOW_SECONDS", 0.1)
        finding = only(visit(path))
    assert (finding.state, "127.0.0.1 of this name was tried before, in vain" in finding.fact) == (State.WARNING, True)


def test_one_of_two_is_enough(rig: Rig, papers: Papers, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        first, second = visit(write_bundle(tmp_path / "client.toml", rig, papers, address))
        assert (first.state, second.state) == (State.OK, State.WARNING)
        assert "Connection refused" in second.fact
        path = tmp_path / "client.toml"
        path.write_text(path.read_text().replace(f"localhost:{rig.ingest.port}", address))
        assert {each.state for each in visit(path)} == {State.PROBLEM}


def test_a_host_that_is_not_let_in(rig: Rig, tmp_path: Path) -> None:
    revoked = issue(rig.folder, Role.HOST, "web2")
    Authority.load(rig.folder).revoke(revoked.fingerprint)
    finding = only(visit(write_bundle(tmp_path / "client.toml", rig, revoked)))
    assert finding.state is State.PROBLEM
    assert "does not let this host in" in finding.fact
    assert finding.remedy == "enroll this host again with a new token, then `arm anew`"


def test_an_impostor(rig: Rig, papers: Papers, tmp_path: Path) -> None:
    make_folder(tmp_path / "other")
    path = write_bundle(tmp_path / "client.toml", rig, papers, ca=(tmp_path / "other/pki/ca.crt").read_text())
    finding = only(visit(path))
    assert (finding.state, "if the collector was set up anew" in finding.remedy) == (State.PROBLEM, True)


def test_a_collector_that_hangs(rig: Rig, papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = write_bundle(tmp_path / "client.toml", rig, papers)
        path.write_text(
            path.read_text().replace(f":{rig.ingest.port}", f":{silent.getsockname()[1]}")
            + "[send]\nconnect_timeout = 0.2\n"
        )
        finding = only(visit(path))
        assert (finding.state, "no TLS handshake within 0.2 s" in finding.fact) == (State.PROBLEM, True)


def test_the_clock(rig: Rig, papers: Papers, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "client.toml", rig, papers)
    finding = only(check_clock(path, time.time()))
    assert (finding.state, finding.topic) == (State.OK, TOPIC_CLOCK)
    for off, words in ((-3600, "behind the collector's"), (86400 * 400, "ahead of the collector's")):
        finding = only(check_clock(path, time.time() + off))
        assert (finding.state, words in finding.fact) == (State.PROBLEM, True), finding
    path.write_text(path.read_text().replace(f":{rig.api.port}", ":1"))
    assert only(check_clock(path, time.time())).state is State.UNKNOWN


def test_a_collector_that_does_not_answer(
    rig: Rig, papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shakes hands, and then says and hears nothing."""
    monkeypatch.setattr(collectors, "ANSWER_SECONDS", 0.2)
    over = threading.Event()
    tls = ingest_server_context(rig.folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with tls.wrap_socket(connection, server_side=True):
                over.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        path = write_bundle(tmp_path / "client.toml", rig, papers)
        path.write_text(path.read_text().replace(f":{rig.ingest.port}", f":{listener.getsockname()[1]}"))
        finding = only(visit(path))
        over.set()
        thread.join(20)
    assert (finding.state, "no answer within" in finding.fact) == (State.PROBLEM, True)
