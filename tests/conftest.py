"""One thread per process, as agents run: two under contention made single tests twenty times slower.

Hypothesis tries few examples, unless `SYMPHONY_TESTS=thorough` (`tests/support/cost/examples.py`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import examples  # noqa: F401  loads the profile before any test is read
