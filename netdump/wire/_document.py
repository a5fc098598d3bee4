"""The headline document: what is known of a dump before any page has come (wire.md 4.5, [W-41]).

Owns the form of the decompressed body of HEADLINE. Must not decompress or hash it.
"""

from __future__ import annotations

from typing import Any

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.namedtuple import NamedTuple
from netdump.wire._fields import pack_fields, unpack_fields
from netdump.wire._registry import HEADLINE_FIELDS, HEADLINE_RAW_MAX

_NAME = "the headline document"


class HeadlineDocument(NamedTuple):
    """Everything about the dump that is not pages; None: not known.

    ehdr, phdrs: as in the image. notes: contents of all PT_NOTE segments. log: as dmesg prints it, newest last.
    crash_time: seconds since 1970. log_truncated: older lines were left out. Spec: [W-41].
    """

    ehdr: bytes | None = None
    phdrs: bytes | None = None
    notes: bytes | None = None
    vmcoreinfo: bytes | None = None
    log: bytes | None = None
    kernel_release: str | None = None
    kernel_version: str | None = None
    machine: str | None = None
    nodename: str | None = None
    crash_time: int | None = None
    cpus: int | None = None
    log_truncated: bool | None = None
    remark: str | None = None


def pack_document(document: HeadlineDocument) -> bytes:
    """The raw body of HEADLINE.

    Raises LocalProtocolError: a text that [W-16] forbids, or more than HEADLINE_RAW_MAX bytes (too-large).
    """
    raw = b"".join(pack_fields(HEADLINE_FIELDS, document, _NAME))
    if len(raw) > HEADLINE_RAW_MAX:
        raise LocalProtocolError("too-large", f"{_NAME} has {len(raw)} bytes, allowed are {HEADLINE_RAW_MAX}")
    return raw


def unpack_document(raw: bytes | bytearray | memoryview) -> HeadlineDocument:
    """Read the raw body of HEADLINE. Raises RemoteProtocolError with the class of the broken rule."""
    if len(raw) > HEADLINE_RAW_MAX:
        raise RemoteProtocolError("too-large", f"{_NAME} has {len(raw)} bytes, allowed are {HEADLINE_RAW_MAX}")
    values: list[Any] = unpack_fields(HEADLINE_FIELDS, memoryview(raw), _NAME)
    document = HeadlineDocument._make(bytes(value) if isinstance(value, memoryview) else value for value in values)
    if document.log_truncated is None:
        return document
    return document._replace(log_truncated=bool(document.log_truncated))
