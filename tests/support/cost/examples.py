"""How many examples hypothesis tries: few in `make test`, all of them in `make test-all`.

Which they are does not change from run to run, so that a failure can be repeated. Timings on shared cores say nothing
about the code: there is no deadline.
"""

from __future__ import annotations

import os

from hypothesis import settings

THOROUGH = os.environ.get("SYMPHONY_TESTS", "fast") == "thorough"
FAST = 20  # where a test does not ask for fewer
USUAL = 100

settings.register_profile("fast", deadline=None, derandomize=True, max_examples=FAST)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=USUAL)
settings.load_profile("thorough" if THOROUGH else "fast")


def few_or(many: int) -> int:
    """How often a loop or a property of a test is tried: `many` times, or a sixth of that, but ten times at least."""
    return many if THOROUGH else min(many, max(10, many // 6))


def examples(many: int) -> settings:
    """The settings of a property that is tried on `many` examples in `make test-all`."""
    return settings(max_examples=few_or(many))
