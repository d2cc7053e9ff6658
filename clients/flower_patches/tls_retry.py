"""Flower's programs, patched to go on when a connection breaks off in a TLS handshake.

    python -m clients.flower_patches.tls_retry flower-superexec ...    the options of that program

Handshakes that merely ended or timed out are tried again here; for certificate errors Flower decides as before. Flower
retries failed connections for ever, but it takes every TLS error for a wrong certificate and gives up (seen with flwr
1.41). A SuperLink killed or a network cut during a handshake is such an error: a SuperNode then lost its place for a
minute, and a ServerApp would lose its run.
"""

from __future__ import annotations

import ssl
import sys
from importlib.metadata import entry_points
from typing import Any

from flwr.supercore import retry
from flwr.supercore.retry import RetryInvoker

BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError, TimeoutError)


def broken_off(error: BaseException | None) -> bool:
    """Whether a connection ended or took too long, by the error or one that led to it."""
    while error is not None:
        if isinstance(error, BROKEN_OFF):
            return True
        error = error.__cause__ or error.__context__
    return False


def patient(invoker: RetryInvoker) -> RetryInvoker:
    """The same invoker, which does not give up over a connection that broke off."""
    gives_up = invoker.should_giveup
    if gives_up is not None:
        invoker.should_giveup = lambda error: not broken_off(error) and gives_up(error)
    return invoker


def run_patiently(program: str) -> Any:
    """A program of Flower's in this process: what its entry point returns."""
    make = retry.make_simple_http_retry_invoker

    def make_patient() -> RetryInvoker:
        return patient(make())

    retry.make_simple_http_retry_invoker = make_patient
    for module in list(sys.modules.values()):  # those that are loaded already hold the function themselves
        if getattr(module, make.__name__, None) is make:
            setattr(module, make.__name__, make_patient)
    (found,) = entry_points(group="console_scripts", name=program)
    return found.load()()


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.exit(run_patiently(sys.argv[0]))
