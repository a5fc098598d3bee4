"""What can be wrong with core, settings and peers: one clear sentence, a status of its own, and nothing lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from netdump import errors
from netdump.testing.elf_writer import Core, Load, counter_pages
from tests.e2e.rig import Collector, netdump

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

GOOD = Core([Load(0x100000, 0x40000, {0: counter_pages(1, 64)})])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a host whose collector is not running."""
    folder = tmp_path_factory.mktemp("host")
    collector = Collector(folder / "collector").start()
    bundle = collector.enroll("host", "web1")
    collector.stop()
    return bundle


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    GOOD.write(path)
    return path


def refused(error: type[errors.NetdumpError], *arguments: str | Path) -> str:
    """Run `netdump send`, which must fail with this error, and return its last sentence."""
    done = netdump("send", *arguments, check=False)
    assert done.returncode == error.exit_status, done.stderr
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("netdump: ")
    return sentence


def edited(bundle: Path, pattern: str, replacement: str) -> Path:
    text = bundle.read_text()
    assert re.search(pattern, text)
    copy = bundle.with_name(f"edited-{abs(hash((pattern, replacement)))}.toml")
    copy.write_text(re.sub(pattern, replacement, text))
    copy.chmod(0o600)
    return copy


@pytest.mark.parametrize(
    ("content", "error", "word"),
    [
        (b"", errors.EmptyCoreError, "empty"),
        (b"no core at all" * 100, errors.NotElfError, "ELF"),
        (b"KDUMP   " + bytes(8192), errors.NotElfError, "kdump"),
        (b"makedumpfile" + bytes(8192), errors.NotElfError, "flattened"),
        (GOOD.build()[:0x9000], errors.TruncatedCoreError, str(0x9000)),
        (GOOD.build()[:70], errors.CoreError, "core"),
    ],
    ids=["empty", "text", "kdump", "flattened", "truncated", "headers-only"],
)
def test_cores(host: Path, tmp_path: Path, content: bytes, error: type[errors.NetdumpError], word: str) -> None:
    path = tmp_path / "core"
    path.write_bytes(content)
    if error is errors.CoreError:
        error = errors.TruncatedCoreError
    assert word in refused(error, path, "--config", host)


def test_lying_headers(host: Path, tmp_path: Path) -> None:
    path = tmp_path / "core"
    Core(GOOD.loads, overrides={"phentsize": 8}).write(path)
    assert str(path) in refused(errors.BadHeadersError, path, "--config", host)


def test_a_core_that_is_not_there(host: Path, tmp_path: Path) -> None:
    assert "nowhere" in refused(errors.SourceUnreadableError, tmp_path / "nowhere", "--config", host)


def test_settings(host: Path, core: Path, tmp_path: Path) -> None:
    assert "enroll" in refused(errors.ConfigMissingError, core, "--config", tmp_path / "none.toml")
    unknown = edited(host, r"\[tls\]", "[send]\nlevle = 1\n[tls]")
    assert "level" in refused(errors.ConfigError, core, "--config", unknown)
    damaged = edited(host, "BEGIN CERTIFICATE", "BEGIN NOTHING")
    assert "enroll" in refused(errors.BundleError, core, "--config", damaged)


def test_nobody_there(host: Path, core: Path) -> None:
    impatient = edited(host, r"\[tls\]", "[send]\npatience = 1\n[tls]")
    assert "127.0.0.1" in refused(errors.UnreachableError, core, "--config", impatient)


def test_an_impostor(host: Path, core: Path, collector: Collector) -> None:
    astray = edited(host, r"collectors = .*", f'collectors = ["{collector.ingest}"]')
    refused(errors.ImpostorError, core, "--config", astray)
    assert collector.dumps() == []


def test_a_revoked_host(core: Path, collector: Collector) -> None:
    bundle = collector.enroll("host", "web2")
    netdump("revoke", collector.folder, "--host", "web2")
    assert "enroll" in refused(errors.RefusedError, core, "--config", bundle)
    assert collector.dumps() == []


def test_a_second_host_that_claims_a_dump(core: Path, collector: Collector) -> None:
    first, second = collector.enroll("host", "web1"), collector.enroll("host", "web2")
    netdump("send", core, "--config", first)
    before = collector.dumps()
    refused(errors.DeclinedError, core, "--config", second)
    assert collector.dumps() == before
    assert before[0]["host"] == "web1"
    assert before[0]["state"] == "complete"


def test_an_analyst_cannot_send_nor_a_host_read(core: Path, collector: Collector) -> None:
    host, analyst = collector.enroll("host", "web1"), collector.enroll("analyst", "ann")
    assert "role" in refused(errors.ConfigError, core, "--config", analyst)
    done = netdump("list", "--config", host, check=False)
    assert done.returncode == errors.ForbiddenError.exit_status, done.stderr
