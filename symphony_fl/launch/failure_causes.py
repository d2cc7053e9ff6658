"""Why a run failed, from what its processes have logged.

Flower ends a simulation with "An error was encountered. Ending simulation.", raised from what really happened, which
stands further up in the same chain of tracebacks.
"""

from __future__ import annotations

import re

TRACEBACK = "Traceback (most recent call last):"
CAUSED = "The above exception was the direct cause of the following exception:"
MEANWHILE = "During handling of the above exception, another exception occurred:"
RAY_LATE = "The current node timed out during startup"  # Ray, of a raylet on a busy machine
RAISED = "Exception ClientAppException occurred. Message: "  # Flower's words before an app's in a simulation
LONGEST = 2000  # characters
LEVEL = 12  # characters of Flower's level before a line; what an actor says has more before it
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:: .*)?$")


def cause(log: str) -> str:
    """One line: the exception that the last failure goes back to; without tracebacks, the last line with an error."""
    lines = _COLOUR.sub("", log).splitlines()
    chain = _last_chain(lines)
    if chain:
        return chain[0][:LONGEST]
    errors = [line.strip() for line in lines if "Error" in line]
    return errors[-1][:LONGEST] if errors else "no error in the log"


def said(reason: str) -> str:
    """What an agent's failure comes to: Ray tells it with all of its traceback, which ends in what the app said."""
    lines = [line.strip() for line in reason.strip().removesuffix("'>").splitlines() if line.strip()]
    return reason if len(lines) < 2 else lines[-1].removeprefix(RAISED)


def _last_chain(lines: list[str]) -> list[str]:
    """The exceptions of the last traceback and of those that it says it was raised from, the first of them first."""
    chain: list[str] = []
    linked = False
    at = 0
    while at < len(lines):
        text = lines[at].strip()
        at += 1
        if text == CAUSED:
            linked = True
        elif text == MEANWHILE:
            linked = False  # what is raised then is the program's own word
        elif text.endswith(TRACEBACK) and lines[at - 1].find(TRACEBACK) <= LEVEL:
            at, exception = _exception(lines, at)
            if exception:
                chain = [*chain, exception] if linked else [exception]
            linked = False
    return chain


def _exception(lines: list[str], at: int) -> tuple[int, str]:
    """(where to go on, the exception's line) of a traceback whose frames begin at line `at`."""
    while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t"):
        at += 1
    if at < len(lines) and _EXCEPTION.match(lines[at].strip()):
        return at + 1, lines[at].strip()
    return at, ""
