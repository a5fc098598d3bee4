"""The line between two namespaces: delayed by so much, losing about as many packets as it was told to."""

from __future__ import annotations

import re
import subprocess

import pytest

from netdump.testing.lossy_line import FAR, LineUnavailableError, LossyLine

# A ping in Python: UDP datagrams to an echo at the other end.
ECHO = """
import socket
s = socket.socket(2, 2); s.bind(("", 7)); print(flush=True)
while 1: d, a = s.recvfrom(99); s.sendto(d, a)
"""
PING = f"""
import socket, time
s = socket.socket(2, 2); s.settimeout(1.5); begun, times = [], []
for n in range(40):
    begun.append(time.monotonic()); s.sendto(b"%d" % n, ("{FAR}", 7)); time.sleep(0.01)
try:
    while 1: answer = s.recv(99); times.append(time.monotonic() - begun[int(answer)])
except TimeoutError: pass
print(len(times), min(times))
"""


def test_loss_and_delay() -> None:
    try:
        with LossyLine(0.3, 0.05, seed=3) as line:
            with subprocess.Popen([*line.inside(near=False), "python3", "-c", ECHO], stdout=subprocess.PIPE) as echo:
                assert echo.stdout is not None
                echo.stdout.readline()
                done = subprocess.run(
                    [*line.inside(near=True), "python3", "-c", PING], capture_output=True, text=True, check=True
                )
                echo.kill()
            assert line.lost > 5
            assert line.carried > 20
    except LineUnavailableError as reason:
        pytest.skip(str(reason))
    match = re.match(r"(\d+) ([\d.]+)", done.stdout)
    assert match is not None
    assert 5 <= int(match[1]) <= 35
    assert float(match[2]) >= 0.1
