"""A run before people's eyes: a bar on a terminal, lines elsewhere.

Both print what is for people, and show where the run is in between. Lines are never silent for longer than `SILENCE`
while they are shown, so that a run that does nothing and a run that takes its time look different.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from symphony_fl.launch.progress import Step, Watch, figures_line

if TYPE_CHECKING:
    from rich.console import Console

SILENCE = 2.0  # seconds
TICK = 0.1


class Display(Protocol):
    """Shown between enter and exit."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def heading(self, text: str) -> None:
        """Print what the following lines belong to."""

    def line(self, text: str) -> None:
        """Print a line."""

    def step(self, step: Step) -> None:
        """Take note of where the run is."""


def display() -> Display:
    """The one that suits standard output."""
    return Bar() if sys.stdout.isatty() else Lines()


class Lines:
    """A line for every stage, and one whenever nothing else has been printed for a while.

    Parameters
    ----------
    write
        Takes a line.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write or _print
        self._clock = clock
        self._watch = Watch(clock())
        self._last = clock()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="display", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def heading(self, text: str) -> None:
        with self._lock:
            self._put(text)

    def line(self, text: str) -> None:
        self.heading(f"  {text}")

    def step(self, step: Step) -> None:
        with self._lock:
            if self._watch.hear(step, self._clock()) and not step.round:
                self._put(f"  {self._watch.what()}")

    def tick(self) -> None:
        """Print where the run is if nothing has been printed for `SILENCE`."""
        with self._lock:
            now = self._clock()
            if now - self._last >= SILENCE:
                self._put(f"  {self._watch.status(now)}")

    def _put(self, text: str) -> None:
        self._last = self._clock()
        self._write(text)

    def _beat(self) -> None:
        while not self._done.wait(TICK):
            self.tick()


class Bar:
    """One line at the bottom that is drawn again and again; what is printed goes above it."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._watch = Watch(time.monotonic())
        self._console = console or Console(highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self._drawn, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def heading(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def line(self, text: str) -> None:
        self.heading(f"  {text}")

    def step(self, step: Step) -> None:
        self._watch.hear(step, time.monotonic())

    def _drawn(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        now, watch = time.monotonic(), self._watch
        table = Table.grid(padding=(0, 1))
        cells: list[Any] = [Spinner("line"), Text(watch.status(now), no_wrap=True, overflow="ellipsis")]
        if watch.rounds:
            cells.append(ProgressBar(total=1.0, completed=watch.share(), width=20))
            cells.append(Text(f"{watch.round}/{watch.rounds}", no_wrap=True))
            cells.append(Text(figures_line(watch.figures), no_wrap=True, overflow="ellipsis"))
        table.add_row(*cells)
        return table


def _print(text: str) -> None:
    print(text, flush=True)
