"""Prometheus' own evaluation of rules: `promtool test rules` on series that a test writes."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from tests.support.programs import needs_programs

STEP_S = 7  # in no range of a rule a whole number of times: Prometheus 2 and 3 differ there

PROMTOOL = which("promtool")
needs_promtool = needs_programs(promtool=PROMTOOL)


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
    step_s: int = STEP_S,
) -> None:
    """Assert that Prometheus fires exactly the `expected` alerts; a step is `step_s` seconds."""
    _check(folder, series, step_s, rule_files=rule_files, alert_rule_test=expected)


def check_values(
    folder: Path,
    series: Sequence[Mapping[str, str]],
    expected: Sequence[tuple[str, float, float | None]],
) -> None:
    """Assert the values of expressions, each as (expression, time in s, value or None)."""
    tests = []
    for expr, at_s, value in expected:
        # promtool compares exactly; the last digits depend on the order of additions.
        found = f"abs(({expr}) - {value!r}) <= bool {abs(value) * 1e-9 + 1e-9!r}" if value else expr
        sample = [] if value is None else [{"labels": "{}", "value": float(value != 0)}]
        tests.append(
            {"expr": f"sum({found})", "eval_time": f"{round(at_s)}s", "exp_samples": sample}
        )
    _check(folder, series, STEP_S, promql_expr_test=tests)


def _check(
    folder: Path,
    series: Sequence[Mapping[str, str]],
    step_s: int,
    rule_files: Sequence[str] = (),
    **tests: Sequence[Mapping[str, Any]],
) -> None:
    test = {
        "rule_files": list(rule_files),
        "evaluation_interval": f"{step_s}s",
        "tests": [
            {
                "interval": f"{step_s}s",
                "input_series": list(series),
                **{kind: list(of_kind) for kind, of_kind in tests.items()},
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
