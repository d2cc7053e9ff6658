"""Flower goes on when a connection breaks off in a TLS handshake, and still gives up over a certificate."""

from __future__ import annotations

import ssl

import httpx
import pytest
from flwr.supercore.retry import make_simple_http_retry_invoker

from clients.flower_patches.tls_retry import patient


def _raised(cause: Exception) -> httpx.ConnectError:
    """As httpx tells of it: the same words, and where they come from."""
    try:
        raise httpx.ConnectError(str(cause)) from cause
    except httpx.ConnectError as error:
        return error


@pytest.mark.parametrize(
    ("cause", "gives_up"),
    [
        (
            ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol"),
            False,
        ),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"), False),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), False),
        (ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired"), True),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), True),
    ],
)
def test_what_is_tried_again(cause: Exception, gives_up: bool) -> None:
    flower, ours = make_simple_http_retry_invoker(), patient(make_simple_http_retry_invoker())
    assert flower.should_giveup is not None and ours.should_giveup is not None
    assert flower.should_giveup(_raised(cause)), (
        "once Flower is patient itself, clients/flower_patches/tls_retry.py can go"
    )
    assert ours.should_giveup(_raised(cause)) == gives_up
