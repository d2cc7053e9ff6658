"""Where Ray cannot be protected a simulation does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _load(before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the ClientApp as `flwr-simulation` does, after some other code."""
    code = (
        f"import sys; {before}; sys.argv[0] = 'flwr-simulation'; import clients.client_app; print('loaded')"
    )
    surroundings = os.environ | environment
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=surroundings, capture_output=True, text=True
    )


def test_it_is_protected_whatever_the_environment_says() -> None:
    done = _load("pass", RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="known", RAY_AUTH_TOKEN_PATH="/dev/null")
    assert done.stdout.strip() == "loaded", done.stderr


@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        ("import ray; ray.is_initialized()", {}, "Ray was loaded before our ClientApp"),
        ("pass", {"RAY_ADDRESS": "127.0.0.1:6379"}, "RAY_ADDRESS = '127.0.0.1:6379': must not be set"),
    ],
)
def test_it_is_refused_with_the_cure(before: str, environment: dict[str, str], said: str) -> None:
    done = _load(before, **environment)
    assert done.returncode != 0 and "loaded" not in done.stdout.split()
    assert said in done.stderr
