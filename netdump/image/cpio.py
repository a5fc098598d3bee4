"""Archives that the kernel unpacks as its first file system: cpio in the "newc" format.

Owns the bytes of the format and their order: the same entries make the same archive, whatever the order in which they
were added, and without times, owners or inode numbers of this machine. Reads no files. Source: Linux
Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c.
"""

from __future__ import annotations

import stat

from netdump.namedtuple import NamedTuple

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
NAME_BYTES_MAX = 4096  # PATH_MAX; init/initramfs.c skips longer ones
FILE_BYTES_MAX = (1 << 32) - 1
FOLDER_MODE = stat.S_IFDIR | 0o755


class Entry(NamedTuple):
    """One name of the archive.

    mode: type and permission bits as in st_mode. content: of a file, or the target of a symbolic link. device: major
    and minor number of a device node.
    """

    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


class Archive:
    """Collects entries by path. Paths are relative, `/` between the parts; the folders above a path are made."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return path.lstrip("/") in self._entries

    def items(self) -> list[tuple[str, Entry]]:
        """Every path and what stands there, a folder before what is in it."""
        return sorted(self._entries.items())

    def add_file(self, path: str, content: bytes, permissions: int = 0o644) -> None:
        """Add a file, up to 4 GiB - 1. permissions: 0 .. 0o7777."""
        assert len(content) <= FILE_BYTES_MAX, path
        self._add(path, Entry(stat.S_IFREG | permissions, content))

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def add_folder(self, path: str, permissions: int = 0o755) -> None:
        """Add a folder, or change the permissions of one that was made for what is in it."""
        self._add(path, Entry(stat.S_IFDIR | permissions))

    def add_device(self, path: str, major: int, minor: int, permissions: int = 0o600) -> None:
        """Add a character device."""
        self._add(path, Entry(stat.S_IFCHR | permissions, b"", (major, minor)))

    def pack(self) -> bytes:
        """Return the archive. Entries stand sorted by path, so a folder comes before what is in it."""
        parts: list[bytes] = []
        for number, (path, entry) in enumerate(self.items(), 1):
            parts.append(_pack_entry(path, entry, number))
        parts.append(_pack_entry(TRAILER, Entry(0), 0))
        archive = b"".join(parts)
        return archive + bytes(-len(archive) % 512)

    def _add(self, path: str, entry: Entry) -> None:
        path = path.lstrip("/")
        parts = path.split("/")
        assert all(part not in {"", ".", ".."} for part in parts), path
        assert len(path.encode()) < NAME_BYTES_MAX, path
        assert path != TRAILER
        for count in range(1, len(parts)):
            above = self._entries.setdefault("/".join(parts[:count]), Entry(FOLDER_MODE))
            assert stat.S_ISDIR(above.mode), path
        before = self._entries.get(path)
        assert before is None or stat.S_ISDIR(before.mode) == stat.S_ISDIR(entry.mode), path
        self._entries[path] = entry


def _pack_entry(path: str, entry: Entry, inode: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.content),
        0,  # device of the file system, major
        0,  # and minor
        *entry.device,
        len(name),
        0,  # checksum, of another format
    )
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + entry.content + bytes(-len(entry.content) % 4)
