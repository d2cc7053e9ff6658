"""Exchange rules, one file each; `RULES` is the one list of their short names."""

from __future__ import annotations

from collections.abc import Callable

from symphony_fl.exchange.merge import Rule
from symphony_fl.exchange.rules.average import Average

RULES: dict[str, Callable[..., Rule]] = {
    "average": Average,
}
"""Every exchange rule by its short name; the first argument of each is P."""
