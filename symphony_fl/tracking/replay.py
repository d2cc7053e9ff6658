"""`symphony replay`: bring runs' spools to their tracking store, once it is back."""

from __future__ import annotations

import sys
from pathlib import Path

from symphony_fl.config.recipe import RecipeError
from symphony_fl.storage.folders import locked, symphony_folder
from symphony_fl.tracking.spool import ENTRIES, STATE, Spool, SpoolError

SECONDS, PATIENCE = 3600.0, 60  # for all of a run's entries; for one request
CLAIM_SECONDS = 2.0


def replay_runs(run: str, uri: str | None) -> int:
    """Bring what a tracking store missed there, from the folder of a run, or of all; the exit status."""
    if run == "all":
        folders = sorted(path.parent for path in (symphony_folder() / "runs").glob(f"*/{ENTRIES}"))
    else:
        folders = [_folder(run)]
    done = [_replay_one(folder, uri) for folder in folders]
    return 0 if all(done) else 1


def _replay_one(folder: Path, uri: str | None) -> bool:
    """Whether all of a run is in its store. One that cannot be replayed now does not keep the others from it."""
    try:
        return _replay(folder, uri) == 0
    except (RecipeError, SpoolError) as error:
        print(f"symphony: {error}", file=sys.stderr)
        return False


def _replay(folder: Path, uri: str | None) -> int:
    """Deliver one run's entries; how many are left.

    Raises
    ------
    RecipeError
        The run goes on at this moment, or names no store.
    SpoolError
        Its files are damaged.
    """
    busy = RecipeError(f"{folder}: another process works in this folder; it delivers by itself")
    with locked(folder / "run.lock", CLAIM_SECONDS, busy):
        spool = Spool(folder)
        before = spool.pending
        if before:
            _deliver(spool, folder, uri or str(spool.state.get("uri", "")))
        spool.close()
    refused = spool.state.get("refused", 0)
    print(
        f"{folder.name}: {before - spool.pending} delivered, {spool.pending} left"
        + (f", {refused} refused by the store" if refused else "")
    )
    return spool.pending


def _deliver(spool: Spool, folder: Path, uri: str) -> None:
    from symphony_fl.tracking.mlflow_store import Store, StoreAway, replay  # loads MLflow

    if not uri:
        raise RecipeError(f"{folder / STATE}: names no tracking store; say --uri URI")
    try:
        replay(spool, Store(uri, spool.state), folder, SECONDS, PATIENCE)
    except StoreAway as error:
        print(f"  {error}")


def _folder(named: str) -> Path:
    for folder in (Path(named).expanduser(), symphony_folder() / "runs" / named):
        if (folder / ENTRIES).is_file():
            return folder.resolve()
    raise RecipeError(f"{named}: holds no run with anything to replay (no {ENTRIES})")
