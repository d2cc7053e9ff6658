"""Which runs a device takes part in: those of the app installed on it.

A run names its app by `fab_id` (`publisher/name`). Flower would fetch that app's bundle (FAB), install it and run it. A
device runs its installed code for runs of this app only, and answers messages of all others with an error:

    foreign_app   the run is of another app
    agent_app     the run's main task is not a ServerApp

Whether server and device understand each other's messages is another question, which the greeting answers
(`PROTOCOL` in `messages.py`).
"""

from __future__ import annotations

from flwr.supercore.constant import TaskType
from flwr.supercore.run import Run

APP = "symphony-fl/symphony-fl"  # publisher and name in pyproject.toml


class RunRefused(Exception):
    """A run this device takes no part in. `name` is what the refusal is counted under."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def admit_run(run: Run) -> None:
    """Raises RunRefused unless the run is one of the installed app."""
    if run.fab_id != APP:
        raise RunRefused("foreign_app", f"fab_id = {run.fab_id!r:.100}: this device runs {APP!r} only")
    if run.primary_task_type not in ("", TaskType.SERVER_APP):
        raise RunRefused(
            "agent_app",
            f"task type = {run.primary_task_type!r:.100}: this device takes messages of ServerApps only",
        )
