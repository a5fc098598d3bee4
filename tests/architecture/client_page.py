"""Renders the tables of docs/client.md from the client's settings.

`python -m tests.architecture.client_page` prints the page with its table brought up to date.
"""

from __future__ import annotations

from pathlib import Path

from netdump.client.config import SETTINGS, Settings

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end -->\n"


def table() -> str:
    rows = ["| setting | default | range | meaning |\n", "|---|---|---|---|\n"]
    for name, setting in SETTINGS.items():
        default = Settings._field_defaults[name]
        shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else repr(default)}`"
        span = {bool: "true or false", str: f"at most {setting.ceiling:g} bytes"}.get(
            setting.kind, f"{setting.floor:g} to {setting.ceiling:,.10g}"
        )
        rows.append(f"| `{name}` | {shown} | {span} | {setting.text} |\n")
    return "".join(rows)


def current() -> str:
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    print(current(), end="")
