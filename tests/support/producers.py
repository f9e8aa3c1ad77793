"""The environments of the real producers, made by `bash tests/provision.sh`."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import TESTS

TRAFFIC = TESTS / "producers" / "traffic.py"
ANTHROPIC_TRAFFIC = TESTS / "producers" / "anthropic_traffic.py"
CONFLUENT = TESTS / "producers" / "confluent_serialisers.py"
ENVOY = TESTS / "producers" / "envoy.yaml"
LITELLM_SDK = TESTS / "producers" / "litellm_sdk.py"
LITELLM_PROXY = TESTS / "producers" / "litellm_proxy.yaml"
CACHE = Path(os.environ.get("TOKENPULSE_TEST_CACHE", Path.home() / ".cache" / "tokenpulse-tests"))


def producers_python(name: str = "producers") -> Path:
    """Return the Python of an environment; skip the test without one."""
    python = CACHE / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there: run `bash tests/provision.sh`")
    return python


def sent_by(script: Path, *arguments: str) -> str:
    """Run a script of real producers to its end, and return what it prints."""
    done = subprocess.run(
        [producers_python(), script, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
