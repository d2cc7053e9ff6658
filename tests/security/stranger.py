"""A second process on this machine that would have a simulation's Ray run its code: `stranger.py GCS MARKER`.

What it may know, a token or none, is in its environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")


@ray.remote(num_cpus=0)
def intrude(marker: str) -> None:
    Path(marker).write_text("code of a stranger ran")


ray.get(intrude.remote(sys.argv[2]), timeout=60)
