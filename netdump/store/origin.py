"""origin.json: whose dump it is and how large (store.md section 3).

Owns the document. Must not read or write files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netdump.errors import MismatchError, OwnerError
from netdump.store.layout import ORIGIN, is_dump_id
from netdump.store.sealed import FORMAT, seal, unseal
from netdump.wire import IMAGE_BYTES_MAX, PAGE_BYTES_MAX, PAGE_BYTES_MIN

ORIGIN_FORMAT: Final = "netdump-origin/1"
ORIGIN_BYTES_MAX: Final = 65536
"""Far more than the longest host name and agent need."""

HOST_MAX: Final = 255
"""Characters in a host name."""
AGENT_MAX: Final = 1024
"""Characters in a client's name for itself."""
_KEY_BYTES: Final = 32
_LEVEL_MAX: Final = 31


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a dump before anything of it arrives.

    id: 32 lower-case hexadecimal digits. host: from the certificate. host_key: hexadecimal SHA-256 of its
    SubjectPublicKeyInfo. image_bytes: 1 .. 2^52. page_bytes: 4096 .. 65536. level: 0 .. 31. agent: what the client
    calls itself. created: seconds since 1970 by the collector's clock.
    """

    id: str
    host: str
    host_key: str
    image_bytes: int
    page_bytes: int
    level: int
    drill: bool
    agent: str
    created: int

    def __post_init__(self) -> None:
        assert is_dump_id(self.id), self.id
        assert 1 <= self.image_bytes <= IMAGE_BYTES_MAX

    @property
    def dump_id(self) -> bytes:
        """The id as 16 bytes."""
        return bytes.fromhex(self.id)

    def pack(self) -> bytes:
        """The sealed file."""
        return seal(
            {
                FORMAT: ORIGIN_FORMAT,
                "id": self.id,
                "host": self.host,
                "host_key": self.host_key,
                "image_bytes": self.image_bytes,
                "page_bytes": self.page_bytes,
                "level": self.level,
                "drill": self.drill,
                "agent": self.agent,
                "created": self.created,
            }
        )

    @classmethod
    def parse(cls, data: bytes, dump_id: str) -> Origin:
        """Read a sealed file back; dump_id: that of the folder it is in. Raises DamageFoundError."""
        members = unseal(data, ORIGIN_FORMAT, ORIGIN)
        if members.text("id") != dump_id:
            raise members.wrong("it is of another dump")
        return cls(
            id=dump_id,
            host=members.text("host", HOST_MAX),
            host_key=members.octets("host_key", _KEY_BYTES).hex(),
            image_bytes=members.number("image_bytes", 1, IMAGE_BYTES_MAX),
            page_bytes=members.number("page_bytes", PAGE_BYTES_MIN, PAGE_BYTES_MAX),
            level=members.number("level", 0, _LEVEL_MAX),
            drill=members.flag("drill"),
            agent=members.text("agent", AGENT_MAX),
            created=members.number("created"),
        )


def check_offer(known: Origin, offered: Origin) -> None:
    """Compare a dump that is offered with what is known of it. Raises OwnerError, MismatchError. Spec: [W-31], [W-32].

    The owner comes first: another host learns nothing of the dump.
    """
    if known.host != offered.host:
        raise OwnerError(f"dump {offered.id} belongs to another host than {offered.host}")
    of_known = (known.image_bytes, known.page_bytes, known.level)
    if of_known != (offered.image_bytes, offered.page_bytes, offered.level):
        raise MismatchError(
            f"dump {offered.id} is known with image, page size and level {of_known}, "
            f"now offered with {(offered.image_bytes, offered.page_bytes, offered.level)}"
        )
