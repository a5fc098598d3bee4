"""Renders deploy/examples/ from what the code knows: no setting is missing, no default or range is wrong.

`python -m tests.deploy.examples` writes the files.
"""

from __future__ import annotations

import json
from pathlib import Path

from netdump.client.config import SETTINGS, Setting, Settings
from netdump.server.config import default_text

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
CLIENT_HEAD = """\
# A bundle of netdump, as `netdump enroll` writes it to /etc/netdump/client.toml. It holds a private key: keep it 0600.
# [send] may be written by hand; everything else is better left to enroll and renew. See docs/client.md.

version = 1
# As in the certificate; for messages only.
name = "web1"
# host: may send, and nothing else.
role = "host"
# Tried in this order, 1 to 16. Port 7461 where none is named.
collectors = ["collector1.example.com:7461", "[2001:db8::7]:7461"]
# For netdump renew.
api = "https://collector1.example.com:7462"

# [tls] ca, certificate, key: PEM texts, written by enroll.

# Settings of netdump send. A setting that is commented out has the value shown, except where what is sent decides.
[send]
"""
# Where no default stands: what is usual. For others some value of their kind.
CHOSEN: dict[str, object] = {
    "level": 31,
    "compression": 1,
    "deadline": 3600,
    "patience": 120,
    "threads": 3,
    "kmsg": True,
}


def client_text() -> str:
    lines = [CLIENT_HEAD]
    for name, setting in SETTINGS.items():
        default = Settings._field_defaults[name]
        chosen = default is None
        note = "; what is sent decides" if chosen and "default" not in setting.text else ""
        value = CHOSEN.get(name, setting.kind(max(setting.floor, 1))) if chosen else default
        lines.append(f"# {setting.text}{note}; {_range(setting)}\n#{name} = {json.dumps(value)}\n")
    return "".join(lines)


def _range(setting: Setting) -> str:
    named = {bool: "true or false", str: f"at most {setting.ceiling:g} bytes"}
    return named.get(setting.kind, f"{setting.floor:g} to {setting.ceiling:.10g}")


TEXTS = {"config.toml": default_text, "client.toml": client_text}

if __name__ == "__main__":
    for name, text in TEXTS.items():
        (EXAMPLES / name).write_text(text())
