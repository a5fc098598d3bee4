"""A line between two network namespaces that loses and delays packets: two TUN devices, and a relay between them.

What `tc netem` does, where the kernel has no netem, and the same every time: which packets are lost comes from a seed.
The namespaces have no names and vanish with the line. Needs root, /dev/net/tun and iproute2's `ip`.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
from random import Random
from typing import Final, Self

_TUNSETIFF: Final = 0x400454CA  # include/uapi/linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 1, 0x1000
_CLONE_NEWNET: Final = 0x40000000
_PACKET_MAX: Final = 65536
_QUEUE_MAX: Final = 1000  # packets on the way in one direction; more are lost, as in netem
_JOIN_S: Final = 10.0
DEVICE: Final = "line0"
NEAR, FAR = "10.111.0.1", "10.111.0.2"


class LineUnavailableError(Exception):
    """This machine cannot make such a line; the text says why."""


class LossyLine:
    """A line with an end at NEAR and one at FAR. A context manager.

    loss: share of packets lost in each direction. delay_s: one way. `inside(near)` gives the words that run a command
    at an end.
    """

    def __init__(self, loss: float, delay_s: float, seed: int = 0) -> None:
        self.lost = self.carried = 0
        self._loss, self._delay_s = loss, delay_s
        self._random = Random(seed)
        self._holders: list[subprocess.Popen[bytes]] = []
        self._devices: list[int] = []
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._relay, name="lossy-line", daemon=True)

    def __enter__(self) -> Self:
        try:
            for address in (NEAR, FAR):
                self._holders.append(_new_namespace())
                self._devices.append(_open_device(self._holders[-1].pid))
                for words in (
                    f"ip addr add {address}/24 dev {DEVICE}",
                    f"ip link set {DEVICE} up mtu 1500",
                    "ip link set lo up",
                ):
                    subprocess.run([*self.inside(address == NEAR), *words.split()], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self._close()
            raise LineUnavailableError(f"no namespaces with TUN devices here: {error}") from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join(_JOIN_S)
        self._close()

    def inside(self, near: bool) -> list[str]:
        """The words before a command that shall run at the near, or the far end."""
        return ["nsenter", f"--net=/proc/{self._holders[0 if near else 1].pid}/ns/net"]

    def _close(self) -> None:
        for descriptor in (*self._devices, self._stop):
            os.close(descriptor)
        self._devices.clear()
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def _relay(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []  # when due, order, to which device, the packet
        order = 0
        poller = select.poll()
        for descriptor in (*self._devices, self._stop):
            poller.register(descriptor, select.POLLIN)
        while True:
            until = max(0.0, waiting[0][0] - time.monotonic()) * 1000 if waiting else None
            ready = [descriptor for descriptor, _ in poller.poll(until)]
            if self._stop in ready:
                return
            for descriptor in ready:
                packet = os.read(descriptor, _PACKET_MAX)
                if self._random.random() < self._loss or len(waiting) >= _QUEUE_MAX:
                    self.lost += 1
                    continue
                other = self._devices[1 - self._devices.index(descriptor)]
                heapq.heappush(waiting, (time.monotonic() + self._delay_s, order, other, packet))
                order += 1
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(waiting)
                os.write(device, packet)
                self.carried += 1


def _new_namespace() -> subprocess.Popen[bytes]:
    """A process that holds a namespace until it is killed. Raises OSError."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert holder.stdout is not None
    with holder.stdout as ready:
        if not ready.readline():
            holder.wait()
            raise OSError("no permission to make a network namespace")
    return holder


def _check(result: int) -> None:
    """Of a system call. Raises OSError."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _open_device(pid: int) -> int:
    """A TUN device in the namespace of a process. Raises OSError."""
    opened: list[int] = []
    failed: list[OSError] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as namespace:
                _check(libc.setns(namespace.fileno(), _CLONE_NEWNET))
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            opened.append(descriptor)
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
        except OSError as error:
            failed.append(error)

    # A thread of its own: setns changes the thread that calls it.
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        for descriptor in opened:
            os.close(descriptor)
        raise failed[0]
    return opened[0]
