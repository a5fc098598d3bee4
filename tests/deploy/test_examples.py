"""The annotated examples are what the code reads: parsed here, each setting at the value that is shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from netdump.client.config import SETTINGS, load_config
from netdump.client.words import parse_words
from netdump.server.config import Config, build, iter_keys
from tests.client.certificates import Authority
from tests.deploy.examples import EXAMPLES, TEXTS
from tests.server.conftest import folder, template
from tests.server.rig import Rig

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["folder", "template"]  # fixtures


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The example with credentials and with every setting in force."""
    ca, certificate, key = Authority().credentials()
    text = uncommented((EXAMPLES / "client.toml").read_text())
    path = tmp_path / "client.toml"
    path.write_text(f"{text}\n[tls]\nca = '''{ca}'''\ncertificate = '''{certificate}'''\nkey = '''{key}'''\n")
    path.chmod(0o600)
    return path


def uncommented(text: str) -> str:
    return re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", TEXTS)
def test_examples_are_current(name: str) -> None:
    assert (EXAMPLES / name).read_text() == TEXTS[name](), "run: python -m tests.deploy.examples"


def test_the_collector_reads_its_example() -> None:
    text = (EXAMPLES / "config.toml").read_text()
    assert build(tomllib.loads(text)) == Config()
    document = tomllib.loads(uncommented(text))
    assert {(section, name) for section, names in document.items() for name in names} == {
        (key.section, key.name) for key in iter_keys()
    }
    assert build(document) == Config()


def test_the_client_reads_its_example(bundle: Path) -> None:
    assert tomllib.loads(bundle.read_text())["send"].keys() == SETTINGS.keys()
    config = load_config(str(bundle), {}, {})
    assert [str(collector) for collector in config.collectors] == ["collector1.example.com:7461", "[2001:db8::7]:7461"]
    assert config.warnings == ()


def test_the_words_are_understood(bundle: Path) -> None:
    lines = (EXAMPLES / "kernel-command-line").read_text().splitlines()
    words = parse_words(" ".join(line for line in lines if not line.startswith("#")))
    assert set(words) == {"level", "deadline", "collectors", "remark"}
    config = load_config(str(bundle), words, {})
    assert config.warnings == ()
    assert (config.settings.level, config.settings.deadline) == (1, 900)
    assert config.settings.remark == "rack 7, the machine with the new memory"


def test_the_container_is_made_and_run_as_it_says_itself() -> None:
    head = (EXAMPLES.parent / "container" / "Containerfile").read_text().partition("\nFROM ")[0].replace("\\\n#", "")
    said = [" ".join(line.lstrip("# ").split()) for line in head.splitlines() if line.startswith("#   ")]
    page = (EXAMPLES.parents[1] / "docs" / "deploy.md").read_text()
    documented = [line for line in page.splitlines() if line.startswith("podman ")]
    assert said == documented
    assert "--format docker " in said[0]  # OCI images have no health check


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "[::]", "0.0.0.0"])
def test_the_container_is_healthy_where_it_listens(host: str, folder: Path, tmp_path: Path) -> None:
    """On whatever address: none but that of `listen` need take connections. Its log is none the longer."""
    text = (EXAMPLES.parent / "container" / "Containerfile").read_text()
    _, option, code = json.loads(next(line for line in text.splitlines() if "HEALTHCHECK" in line).partition("CMD")[2])
    told = tmp_path / "serve.json"
    command = [sys.executable, option, code.replace("/var/lib/netdump/serve.json", str(told))]
    with Rig(folder, {"api": {"listen": f"{host}:0"}}) as rig:
        told.write_text(json.dumps({"pid": 1, "ingest": str(rig.ingest), "api": str(rig.api)}))
        assert subprocess.run(command, capture_output=True).returncode == 0
    assert not [name for name in ("handshake-failed", "request-failed", "host-refused") if rig.events.all(name)]
    assert subprocess.run(command, capture_output=True).returncode != 0
