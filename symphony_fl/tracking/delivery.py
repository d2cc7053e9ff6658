"""The thread that brings a run's spool to its tracking store, so that no round waits for it.

It opens the store (seconds: MLflow's libraries, a new database) while agents start, and later takes everything that was
written since it looked last at once. Only this thread touches the store and counts what was delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from symphony_fl.tracking.spool import Spool

if TYPE_CHECKING:
    from symphony_fl.tracking.mlflow_store import Store

LOG = logging.getLogger("symphony_fl.tracking.tracker")
EVERY_SECONDS = 5.0  # between two looks: what a run says meanwhile makes a few large requests
SECONDS = 60.0  # spent on a delivery, and waited for one at most
ROUND_PATIENCE, FINISH_PATIENCE = 5, 60  # seconds in which a request must be answered; files go at the end
PAUSE_SECONDS = 20.0  # before a store that was away is tried again


class SpoolDelivery:
    """Delivers until it is closed. What it fails with, other than a store that is away, is raised in the next call.

    Parameters
    ----------
    spool : of the run
    uri : of the store
    folder : of the run
    """

    def __init__(self, spool: Spool, uri: str, folder: Path) -> None:
        self._spool, self._uri, self._folder = spool, uri, folder
        self._asked = self._done = 0  # times; what was asked for when the last delivery began is done
        self._hurry = self._closing = False
        self._failure: BaseException | None = None
        self._store: Store | None = None
        self._again = 0.0  # when a store that was away is tried next, monotonic seconds
        self._change = threading.Condition()  # guards the above
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """There is something to deliver."""
        with self._change:
            self._raise()
            self._asked += 1
            self._change.notify_all()

    def settle(self) -> None:
        """Wait until the store has all that was written, is away, or takes too long."""
        with self._change:
            self._asked += 1
            self._hurry = True
            self._change.notify_all()
            wanted = self._asked
            self._change.wait_for(lambda: self._done >= wanted or self._failure, SECONDS)
            self._raise()

    def close(self) -> None:
        """Deliver what is left, with more patience, and end."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._closing or self._asked > self._done)
                    number, closing, self._hurry = self._asked, self._closing, False
                self._deliver(closing)
                with self._change:
                    self._done = number
                    self._change.notify_all()
                    if closing:
                        return
                    self._change.wait_for(lambda: self._closing or self._hurry, EVERY_SECONDS)
        except BaseException as error:
            with self._change:
                self._failure = error
                self._change.notify_all()

    def _deliver(self, closing: bool) -> None:
        """Bring the store up to date. One that is away is no failure: it is said, and tried again some time later."""
        from symphony_fl.tracking.mlflow_store import StoreAway, replay  # loads MLflow

        self._spool.sync()
        if time.monotonic() < self._again and not closing:
            return
        patience = FINISH_PATIENCE if closing else ROUND_PATIENCE
        try:
            replay(self._spool, self._opened(), self._folder, SECONDS, patience)
        except StoreAway as error:
            self._again = time.monotonic() + PAUSE_SECONDS
            waiting = self._spool.pending
            LOG.warning("symphony: tracking store away, %d entries kept: %s", waiting, str(error)[:300])

    def _opened(self) -> Store:
        from symphony_fl.tracking.mlflow_store import Store

        if self._store is None:
            self._store = Store(self._uri, self._spool.state)
        return self._store
