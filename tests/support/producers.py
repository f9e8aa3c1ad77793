"""The environments of the real producers, made by `bash tests/provision.sh`."""

import os
from pathlib import Path

import pytest

from tests.support.paths import TESTS

TRAFFIC = TESTS / "producers" / "traffic.py"
ANTHROPIC_TRAFFIC = TESTS / "producers" / "anthropic_traffic.py"
CONFLUENT = TESTS / "producers" / "confluent_serialisers.py"
LITELLM_SDK = TESTS / "producers" / "litellm_sdk.py"
LITELLM_PROXY = TESTS / "producers" / "litellm_proxy.yaml"
CACHE = Path(os.environ.get("TOKENPULSE_TEST_CACHE", Path.home() / ".cache" / "tokenpulse-tests"))


def producers_python(name: str = "producers") -> Path:
    """Return the Python of an environment; skip the test without one."""
    python = CACHE / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there: run `bash tests/provision.sh`")
    return python
