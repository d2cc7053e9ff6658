"""One thread per process, as agents run: two under contention made single tests twenty times slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
