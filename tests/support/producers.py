"""The environment of the real producers, made by `bash tests/provision.sh`."""

import os
from pathlib import Path

import pytest

from tests.support.paths import TESTS

TRAFFIC = TESTS / "producers" / "traffic.py"
CACHE = Path(os.environ.get("TOKENPULSE_TEST_CACHE", Path.home() / ".cache" / "tokenpulse-tests"))


def producers_python() -> Path:
    """Return the Python of the environment; skip the test without one."""
    python = CACHE / "producers" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there: run `bash tests/provision.sh`")
    return python
