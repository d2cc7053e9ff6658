"""Flower's SuperNode, which ends when it has given up.

    python -m clients.supernode ...    the options of `flower-supernode`

When Flower's SuperNode ends its loop, as over a certificate that a wrong clock takes for expired (seen with flwr 1.41),
its process stays, kept by the thread that serves the local API, and never takes a message again. Here the process ends
with the loop, so that who supervises it starts it anew. A connection that merely broke off is tried again
(`patience.py`).
"""

from __future__ import annotations

import logging
import os
import sys

from clients.patience import run_patiently


def main() -> None:
    """Entry point; Flower ends its processes by SystemExit where it means to."""
    run_patiently("flower-supernode")
    print("the SuperNode has given up its connection to the SuperLink", file=sys.stderr, flush=True)
    logging.shutdown()
    os._exit(1)  # other threads of Flower would go on


if __name__ == "__main__":
    main()
