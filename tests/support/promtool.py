"""Prometheus' own evaluation of rules: `promtool test rules` on series that a test writes."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest

STEP_S = 5

PROMTOOL = which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH: run `bash tests/provision.sh`"
)


def series_text(values: Sequence[float | None]) -> str:
    """Return the values of one series, one a step; a series that disappears is marked as stale."""
    texts, before = [], None
    for value in values:
        if value is None:
            texts.append("_" if before is None else "stale")
        else:
            texts.append(repr(value))
        before = value
    return " ".join(texts)


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels in braces, as a selector writes them."""
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def check_alerts(
    folder: Path,
    rule_files: Sequence[str],
    series: Sequence[Mapping[str, str]],
    expected: Sequence[Mapping[str, Any]],
) -> None:
    """Assert that Prometheus fires exactly the `expected` alerts; a step is STEP_S seconds."""
    test = {
        "rule_files": list(rule_files),
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": list(series),
                "alert_rule_test": list(expected),
            }
        ],
    }
    (folder / "test.yml").write_text(json.dumps(test))
    result = subprocess.run(
        ["promtool", "test", "rules", str(folder / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3_000:] + result.stderr[-3_000:]
