"""A dump as lists and pages show it: one record, and its public JSON object.

Owns the shape of the object and the checks on one that comes from a peer. Must not know where records are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from netdump.errors import RemoteError
from netdump.store.layout import is_dump_id

if TYPE_CHECKING:
    from collections.abc import Mapping

INTEGER_MAX: Final = (1 << 63) - 1
"""The largest number of a record: what SQLite and every JSON reader in use can hold exactly enough."""

TIME_MAX: Final = 253_402_300_799
"""9999-12-31T23:59:59Z in seconds since 1970, the latest time that can be written."""

TEXT_CHARS_MAX: Final = 1024
"""Of a text of a public object."""

PAGE_SIZES: Final = frozenset({0, 4096, 8192, 16384, 32768, 65536})
"""Of a dump, bytes; 0: not known, for what says it is damaged."""

LEVEL_MAX: Final = 255
"""Of dump levels; those that are known end at 31."""

UNREADABLE: Final = "cannot be read: "
"""How the remark of a dump begins that is damaged only in that the disk, or its rights, would not let it be read."""

JsonObject = dict[str, Any]


class State(StrEnum):
    """What has become of a dump."""

    ARRIVING = "arriving"
    """A client is connected and sends it."""
    COMPLETE = "complete"
    """All of it is here, verified."""
    INTERRUPTED = "interrupted"
    """Not all of it is here, and nobody sends it now."""
    DAMAGED = "damaged"
    """What is stored is not what it was."""


@dataclass(frozen=True, slots=True)
class DumpRecord:
    """What is known of one dump. Sizes in bytes, times in seconds since 1970, crash_time by the host's clock.

    id: 32 hexadecimal digits. host: from the certificate. drill: nothing crashed. level: dump level of the page filter.
    first_seen: when the dump was first offered; updated: when something of it last became durable; completed: None
    until it is. durable_bytes: image that is here, from its start; stored_bytes: of segment files; chunks: how many are
    durable. root: hexadecimal, None until complete. totals: bytes of image by page state, None until complete;
    excluded: the same by class. vmcore: the restored image is there. checked: when all of it was last read and checked
    in the background, None: not since the index was made. remark: the client's, or what is wrong with a damaged dump.
    order_ns: orders the dumps of one second, not shown.
    """

    id: str
    host: str
    state: State
    image_bytes: int
    page_bytes: int
    level: int
    first_seen: int
    updated: int
    drill: bool = False
    kernel_release: str | None = None
    kernel_version: str | None = None
    machine: str | None = None
    nodename: str | None = None
    panic: str | None = None
    crash_time: int | None = None
    completed: int | None = None
    durable_bytes: int = 0
    stored_bytes: int = 0
    chunks: int = 0
    root: str | None = None
    totals: Mapping[str, int] | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)
    vmcore: bool = False
    remark: str | None = None
    checked: int | None = None
    order_ns: int = 0


def was_unreadable(remark: str | None) -> bool:
    """Whether the remark of a damaged dump says that it could not be read, which may be over; not that it is bad."""
    return remark is not None and remark.startswith(UNREADABLE)


_TIMES: Final = ("crash_time", "first_seen", "updated", "completed", "checked")

_MEMBERS: Final = (
    "id",
    "host",
    "state",
    "drill",
    "level",
    "kernel_release",
    "kernel_version",
    "machine",
    "nodename",
    "panic",
    *_TIMES,
    "image_bytes",
    "page_bytes",
    "durable_bytes",
    "stored_bytes",
    "chunks",
    "root",
    "totals",
    "excluded",
    "vmcore",
    "remark",
)


def time_text(seconds: int | None) -> str | None:
    """Seconds since 1970 (0 .. TIME_MAX) as RFC 3339 in UTC; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> int:
    """RFC 3339 (a time without zone is UTC; a date alone is its start) as seconds since 1970. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    seconds = int((parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp())
    if not 0 <= seconds <= TIME_MAX:
        raise ValueError(f"{text} is out of range")
    return seconds


def dump_json(record: DumpRecord) -> JsonObject:
    """The public object of a dump: every member is always there, times are RFC 3339 texts or null.

    Texts are cut to what readers take: two remarks of a host are longer together.
    """
    shown: JsonObject = {name: getattr(record, name) for name in _MEMBERS}
    for name, value in shown.items():
        if isinstance(value, str):
            shown[name] = str(value)[:TEXT_CHARS_MAX]
    for name in _TIMES:
        shown[name] = time_text(shown[name])
    shown["state"] = record.state.value
    shown["totals"] = None if record.totals is None else dict(record.totals)
    shown["excluded"] = dict(record.excluded)
    return shown


def parse_record(shown: object) -> DumpRecord:
    """The record of a public object that a collector sent; unknown members are skipped.

    Raises RemoteError for an object that no collector sends.
    """
    if not isinstance(shown, dict):
        raise RemoteError(f"the collector sent {type(shown).__name__} where a dump was expected")
    fields = _Fields(shown)
    return DumpRecord(
        id=fields.id(),
        host=fields.text("host"),
        state=fields.state(),
        drill=fields.flag("drill"),
        level=fields.number("level", LEVEL_MAX),
        image_bytes=fields.number("image_bytes"),
        page_bytes=fields.page_bytes(),
        first_seen=fields.time("first_seen") or 0,
        updated=fields.time("updated") or 0,
        completed=fields.time("completed"),
        checked=fields.time("checked"),
        crash_time=fields.time("crash_time"),
        durable_bytes=fields.number("durable_bytes"),
        stored_bytes=fields.number("stored_bytes"),
        chunks=fields.number("chunks"),
        totals=fields.sizes("totals"),
        excluded=fields.sizes("excluded") or {},
        vmcore=fields.flag("vmcore"),
        kernel_release=fields.maybe_text("kernel_release"),
        kernel_version=fields.maybe_text("kernel_version"),
        machine=fields.maybe_text("machine"),
        nodename=fields.maybe_text("nodename"),
        panic=fields.maybe_text("panic"),
        root=fields.maybe_text("root"),
        remark=fields.maybe_text("remark"),
    )


class _Fields:
    """Takes members out of a peer's object, each checked for its type and range."""

    __slots__ = ("_shown",)

    def __init__(self, shown: dict[str, object]) -> None:
        self._shown = shown

    def _wrong(self, name: str) -> RemoteError:
        return RemoteError(f"the collector sent a dump whose {name!r} makes no sense; it may be of another version")

    def maybe_text(self, name: str) -> str | None:
        value = self._shown.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX or _is_broken(value):
            raise self._wrong(name)
        return value

    def text(self, name: str) -> str:
        value = self.maybe_text(name)
        if value is None:
            raise self._wrong(name)
        return value

    def id(self) -> str:
        value = self.text("id")
        if not is_dump_id(value):
            raise self._wrong("id")
        return value

    def page_bytes(self) -> int:
        value = self.number("page_bytes")
        if value not in PAGE_SIZES:
            raise self._wrong("page_bytes")
        return value

    def state(self) -> State:
        try:
            return State(self.text("state"))
        except ValueError:
            raise self._wrong("state") from None

    def flag(self, name: str) -> bool:
        value = self._shown.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def number(self, name: str, most: int = INTEGER_MAX) -> int:
        return self._checked(name, self._shown.get(name), most)

    def time(self, name: str) -> int | None:
        value = self.maybe_text(name)
        try:
            return None if value is None else parse_time(value)
        except ValueError:
            raise self._wrong(name) from None

    def sizes(self, name: str) -> dict[str, int] | None:
        value = self._shown.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or len(value) > 64:
            raise self._wrong(name)
        return {str(key)[:TEXT_CHARS_MAX]: self._checked(name, size) for key, size in value.items()}

    def _checked(self, name: str, value: object, most: int = INTEGER_MAX) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self._wrong(name)
        return value


def _is_broken(text: str) -> bool:
    """Whether it holds half of a pair of surrogates, as JSON can and no encoding of a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
