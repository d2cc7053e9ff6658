"""The tracking store, MLflow's: spools are emptied into it, and what is there is read. The only importer of mlflow."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from symphony_fl.config.options import EXPERIMENT
from symphony_fl.storage.folders import safe_name
from symphony_fl.tracking.spool import PARENT, Entry, Spool

LOG = logging.getLogger("symphony_fl.tracking.mlflow_store")
SQLITE = "sqlite:///"
KEY = "symphony_key"  # tag by which a run is found that may have been made already
TIMEOUT, RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PARAMS, METRICS = 100, 1000  # of one request; MLflow admits no more
TOGETHER = 200  # entries at most that are counted as delivered at once
# Of the statuses from 400 to 499, those that are not the entry's fault: a proxy says 404 while what is behind it is
# away, and so does a store that has lost the run.
TRY_AGAIN = (401, 403, 404, 408, 409, 429)


class StoreAway(ConnectionError):
    """The tracking store cannot be reached, or cannot take anything now."""


class Store:
    """Takes entries of a spool, any of them twice without harm.

    Parameters
    ----------
    uri : of the MLflow store
    state : of the spool: `runs`, name -> MLflow's id; `refused`, entries that it will never take
    """

    def __init__(self, uri: str, state: dict[str, Any]) -> None:
        self.uri = uri
        self._state = state
        self._client: MlflowClient | None = None
        self._patience = os.environ.get(TIMEOUT)  # the user's word, if there is one

    def reach(self, patience: int) -> None:
        """Before entries are brought: requests that are not answered in `patience` seconds fail from now on.

        MLflow would ask seven times, for two minutes each.
        """
        os.environ[TIMEOUT] = self._patience or str(patience)
        os.environ.setdefault(RETRIES, "0")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        if self._client is None:
            self._client = MlflowClient(tracking_uri=self.uri)

    def apply(self, entries: Sequence[Entry], folder: Path) -> None:
        """Bring one entry, or several that all are metrics.

        Raises
        ------
        StoreAway
            They are to be brought again.
        """
        first = entries[0]
        try:
            if first["do"] == "metrics":
                self._bring_metrics(entries)
            else:
                self._bring(first, folder)
        except (MlflowException, OSError) as error:
            status = error.get_http_status_code() if isinstance(error, MlflowException) else 500
            if first["do"] == "create" or not 400 <= status < 500 or status in TRY_AGAIN:
                raise StoreAway(f"{self.uri}: {' '.join(str(error).split())[:300]}") from None
            if len(entries) == 1:
                self._refused(first, str(error))
                return
            for entry in entries:  # one that is refused must not take the others along
                self.apply([entry], folder)

    def _bring(self, entry: Entry, folder: Path) -> None:
        client = self._client
        assert client is not None
        if entry["do"] == "create":
            self._create(client, entry)
            return
        run = self._state["runs"][entry["run"]]
        if entry["do"] == "tags":
            client.log_batch(run, tags=[RunTag(key, value) for key, value in entry["tags"].items()])
        elif entry["do"] == "finish":
            client.set_terminated(run, entry["status"], end_time=entry["at"])
        else:
            path = folder / entry["file"]  # an absolute one stays as it is
            if path.is_file():
                client.log_artifact(run, str(path), entry["folder"])
            else:
                self._refused(entry, f"{path} is not there any more")

    def _bring_metrics(self, entries: Sequence[Entry]) -> None:
        """As few requests as can be: MLflow takes as long for one number as for some hundred."""
        client = self._client
        assert client is not None
        found: dict[str, list[Metric]] = defaultdict(list)
        for entry in entries:
            found[entry["run"]] += [
                Metric(name, value, entry["at"], entry["step"]) for name, value in entry["values"].items()
            ]
        for run, metrics in found.items():
            for start in range(0, len(metrics), METRICS):
                client.log_batch(self._state["runs"][run], metrics[start : start + METRICS])

    def _create(self, client: MlflowClient, entry: Entry) -> None:
        """The parent run and its children, those of them that were not made before."""
        experiment = experiment_id(client, self.uri, entry["experiment"])
        runs = {
            run.data.tags.get("agent", PARENT): run.info.run_id
            for run in search(client, experiment, f"tags.{KEY} = '{entry['key']}'")
        }
        for name, tags in entry["runs"].items():  # the parent comes first
            if name not in runs:
                tags = (
                    tags
                    | {KEY: entry["key"]}
                    | ({} if name == PARENT else {"mlflow.parentRunId": runs[PARENT]})
                )
                runs[name] = client.create_run(experiment, start_time=entry["at"], tags=tags).info.run_id
        params = [Param(name, value) for name, value in entry["params"].items()]
        for start in range(0, len(params), PARAMS):
            client.log_batch(runs[PARENT], params=params[start : start + PARAMS])
        self._state["runs"] = runs

    def _refused(self, entry: Entry, why: str) -> None:
        """An entry that no store will ever take must not hold up the others; it stays on disk, and is counted."""
        self._state["refused"] = self._state.get("refused", 0) + 1
        LOG.warning("symphony: tracking: %s of %s refused: %s", entry["do"], entry["run"], why[:300])


def replay(spool: Spool, store: Store, folder: Path, seconds: float, patience: int) -> None:
    """Deliver what waits, in order, until nothing does or the time is over.

    Raises
    ------
    StoreAway
        The store cannot be reached; what was delivered before is counted.
    """
    if not spool.pending:
        return
    until = time.monotonic() + seconds
    try:
        store.reach(patience)
        for entries, sizes in _together(spool.waiting()):
            store.apply(entries, folder)
            for size in sizes:
                spool.delivered(size)
            if time.monotonic() > until:
                return
    finally:
        spool.save()


def _together(waiting: Iterable[tuple[Entry, int]]) -> Iterator[tuple[list[Entry], list[int]]]:
    """Entries and their sizes in order, each alone but for metrics that follow one another."""
    entries: list[Entry] = []
    sizes: list[int] = []
    for entry, size in waiting:
        if entries and (len(entries) == TOGETHER or not entry["do"] == entries[-1]["do"] == "metrics"):
            yield entries, sizes
            entries, sizes = [], []
        entries.append(entry)
        sizes.append(size)
    if entries:
        yield entries, sizes


@dataclass(frozen=True)
class StoredRun:
    """A parent run as the store has it: id, name, status, tags, parameters, and the last values of its metrics."""

    id: str
    name: str
    status: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def find_runs(uri: str, experiment: str) -> list[StoredRun]:
    """The parent runs of an experiment, oldest first; none where there is no such experiment.

    Raises
    ------
    StoreAway
        The store cannot be read.
    """
    try:
        client = _reader(uri)
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else search(client, found.experiment_id, "tags.kind = 'run'")
    except (MlflowException, OSError) as error:
        raise StoreAway(f"{uri}: {' '.join(str(error).split())[:300]}") from None
    return sorted(map(_stored, runs), key=lambda run: run.started)


def search(client: MlflowClient, experiment: str, where: str) -> list[Any]:
    """All runs of an experiment that MLflow's filter admits, page by page."""
    page = client.search_runs([experiment], where)
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment], where, page_token=page.token)
        runs += page
    return runs


def metric_series(uri: str, run: str, name: str) -> dict[int, float]:
    """Step -> the value measured last, of one metric of a run.

    Raises
    ------
    StoreAway
        The store cannot be read.
    """
    try:
        points = _reader(uri).get_metric_history(run, name)
    except (MlflowException, OSError) as error:
        raise StoreAway(f"{uri}: {' '.join(str(error).split())[:300]}") from None
    return {point.step: point.value for point in sorted(points, key=lambda item: (item.step, item.timestamp))}


def _reader(uri: str) -> MlflowClient:
    os.environ.setdefault(TIMEOUT, "30")
    os.environ.setdefault(RETRIES, "1")
    return MlflowClient(tracking_uri=uri)


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        info.run_id, info.run_name, info.status, info.start_time, data.tags, data.params, data.metrics
    )


def log_summary(uri: str, name: str, files: Sequence[Path], experiment: str = EXPERIMENT) -> None:
    """A finished MLflow run of its own for what many runs come to together: tables and plots as artifacts."""
    client = MlflowClient(tracking_uri=uri)
    tags = {"mlflow.runName": name, "kind": "summary"}
    run_id = client.create_run(experiment_id(client, uri, experiment), tags=tags).info.run_id
    for path in files:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, "FINISHED")


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment of that name, which is made where there is none.

    With a SQLite store, artifacts lie beside its file. MLflow would put them under the working folder, which for a
    ServerApp is a folder of Flower's that is gone after the run.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if uri.startswith(SQLITE):
        location = (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts" / safe_name(name)).as_uri()
    return str(client.create_experiment(name, artifact_location=location))
