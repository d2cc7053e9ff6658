"""Faults at random times on a loopback network of real devices, and what is left of it.

    python tests/edge/chaos.py --minutes 30 --seed 0 --json FILE

Best as root on Linux with a C compiler: then disks can be filled and clocks be set wrong, too. The faults are in
tests/support/chaos/faults.py, what must hold in tests/support/chaos/chaos_run.py. Ends with status 1 if something does
not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Entry point."""
    support = ROOT / "tests" / "support"
    sys.path[:0] = [str(ROOT), str(support), str(support / "devices"), str(support / "chaos")]
    from chaos_run import Chaos, Plan, markdown

    from symphony_fl.storage.folders import write_json

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for the recipe")
    parser.add_argument("--minutes", type=float, default=3.0, help="of faults, at least (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of order, times, targets (default: 0)")
    parser.add_argument("--recipe", default="given_tasks")
    parser.add_argument("--rounds", type=int, default=24, help="of each run (default: 24)")
    parser.add_argument("--pause", type=float, default=14.0, help="mean seconds between faults (default: 14)")
    parser.add_argument("--folder", type=Path, help="kept, with all logs (default: one that is removed)")
    parser.add_argument("--json", type=Path, help="write the outcome here")
    options = parser.parse_args()
    plan = Plan(
        options.minutes, options.seed, options.recipe, options.overrides, options.rounds, pause=options.pause
    )
    with tempfile.TemporaryDirectory(prefix="symphony-chaos-") as folder:
        outcome = Chaos(options.folder or Path(folder), plan).carry_out()
    print(markdown(outcome))
    if options.json:
        write_json(options.json, asdict(outcome))
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
