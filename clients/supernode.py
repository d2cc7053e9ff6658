"""Flower's SuperNode, which ends when it has given up.

    python -m clients.supernode ...    the options of `flower-supernode`

When a SuperLink goes away in the middle of a TLS handshake, Flower's SuperNode takes that for a wrong certificate and
ends its loop (seen with flwr 1.41); but its process stays, kept by the thread that serves the local API, and never
takes a message again. Here the process ends with the loop, so that who supervises it starts it anew.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import entry_points


def main() -> None:
    """Entry point; Flower ends its processes by SystemExit where it means to."""
    (supernode,) = entry_points(group="console_scripts", name="flower-supernode")
    supernode.load()()
    print("the SuperNode has given up its connection to the SuperLink", file=sys.stderr, flush=True)
    logging.shutdown()
    os._exit(1)  # other threads of Flower would go on


if __name__ == "__main__":
    main()
