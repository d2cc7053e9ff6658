"""What the `symphony` command reads out of a tracking store: comparisons and dashboards of runs that are done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.storage.folders import default_tracking_uri, write_json


@dataclass(frozen=True)
class Store:
    """A tracking store and an experiment of it; `uri` None: the one under the Symphony folder."""

    uri: str | None
    experiment: str


def serve_page(named: str | None, host: str, port: int) -> int:
    """MLflow's web page on a tracking store, until it is stopped; its exit status."""
    uri = named or default_tracking_uri()
    print(f"http://{host}:{port}  (store: {uri}; stop with Ctrl-C)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # The page needs no jobs, and anyone who reaches it could make the server run some.
    return subprocess.call(command, env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})


def export(
    store: Store,
    out_file: str | None,
    json_file: str | None,
    names: Sequence[str],
    settings: Sequence[str],
    seeds: Sequence[int],
) -> int:
    """The comparison of runs that are in the store; names of recipes, key=value and seeds choose among them.

    Table to the terminal, rows to `json_file`, all of it to `out_file`.
    """
    from symphony_fl.reports import dashboard as page
    from symphony_fl.reports.tables import comparison_table, ways
    from symphony_fl.tracking.mlflow_store import StoreAway
    from symphony_fl.tracking.runs import stored_rows

    uri = store.uri or default_tracking_uri()
    out = None if out_file is None else Path(out_file).expanduser()
    if out is not None:
        page.check_form(out)
    try:
        rows = stored_rows(uri, store.experiment, names, settings, seeds)
        drawn = [] if out is None else page.curves(uri, rows)
    except StoreAway as error:
        print(f"symphony: tracking store: {error}", file=sys.stderr)
        return 1
    print(comparison_table(rows) + f"\n\n  run {ways(rows)}")
    if json_file:
        write_json(Path(json_file).expanduser(), {"runs": rows})
    if out is not None:
        title = f"{store.experiment}, {len(rows)} run{'s' * (len(rows) != 1)}"
        for path in page.write_dashboard(out, title, rows, drawn):
            print(path)
    return 0 if all(row["status"] == "completed" for row in rows) else 1
