"""What the `symphony` command reads out of a tracking store: comparisons and dashboards of runs that are done."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symphony_fl.config.options import EXPERIMENT
from symphony_fl.config.recipe import RecipeError
from symphony_fl.storage.folders import default_tracking_uri, write_json


def dashboard(options: argparse.Namespace) -> int:
    """MLflow's web page on a tracking store; with --out a file: table and plots of an experiment's runs."""
    uri = options.uri or default_tracking_uri()
    if options.out:
        return export(options, [], options.words, [])
    if options.words:
        raise RecipeError(
            f"{options.words[0]!r}: settings need --out FILE; MLflow's page has filters of its own"
        )
    print(f"http://{options.host}:{options.port}  (store: {uri}; stop with Ctrl-C)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", options.host, "--port", str(options.port), "--workers", "1"]
    # The page needs no jobs, and whoever reaches it could have the server run some.
    return subprocess.call(command, env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})


def compare_stored(options: argparse.Namespace) -> int:
    """The comparison of runs that are in the store; names of recipes, key=value and seeds choose among them."""
    if not options.from_mlflow:
        raise RecipeError(f"--out {options.out}: needs --from-mlflow")
    names = [word for word in options.recipes if "=" not in word]
    settings = [word for word in options.recipes if "=" in word]
    return export(options, names, settings, options.seeds or [])


def export(
    options: argparse.Namespace, names: Sequence[str], settings: Sequence[str], seeds: Sequence[int]
) -> int:
    """Table to the terminal, rows to --json, all of it to --out."""
    from symphony_fl.reports import dashboard as page
    from symphony_fl.reports.tables import comparison_table, ways
    from symphony_fl.tracking.mlflow_store import StoreAway
    from symphony_fl.tracking.runs import stored_rows

    uri = options.uri or default_tracking_uri()
    out = None if options.out is None else Path(options.out).expanduser()
    if out is not None:
        page.check_form(out)
    try:
        rows = stored_rows(uri, options.experiment, names, settings, seeds)
        drawn = [] if out is None else page.curves(uri, rows)
    except StoreAway as error:
        print(f"symphony: tracking store: {error}", file=sys.stderr)
        return 1
    print(comparison_table(rows) + f"\n\n  run {ways(rows)}")
    if getattr(options, "json", None):
        write_json(Path(options.json).expanduser(), {"runs": rows})
    if out is not None:
        for path in page.write_dashboard(
            out, f"{options.experiment}, {len(rows)} run{'s' * (len(rows) != 1)}", rows, drawn
        ):
            print(path)
    return 0 if all(row["status"] == "completed" for row in rows) else 1


def add_store_options(sub: Any) -> None:
    """Which store and experiment, and the file to write."""
    sub.add_argument("--uri", help="MLflow tracking URI (default: the store under ~/.symphony-fl)")
    sub.add_argument("--experiment", default=EXPERIMENT, help="MLflow experiment (default: %(default)s)")
    sub.add_argument(
        "--out", metavar="FILE", help="write table and plots of the runs to FILE.html or FILE.md"
    )
