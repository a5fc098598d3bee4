"""`python -m netdump.client`: the sender without the rest of netdump, as the capture image starts it."""

from __future__ import annotations

import sys

from netdump.client.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
