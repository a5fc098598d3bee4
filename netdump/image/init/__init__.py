"""What runs inside the capture image.

Process 1 is `supervisor`: small, and it never does anything that may hang. Whatever may (a module that probes a device,
a network card, a disk, the client) runs in a child with a time limit: the stages `prepare`, `network`, `save`, `finish`
and the client itself. What they know of the machine stands in one text file, `plan`. The rules of the capture side
hold: standard library only, and no asyncio, logging, dataclasses, pathlib, subprocess.
"""
