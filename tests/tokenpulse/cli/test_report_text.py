"""The short table of `tokenpulse report` and `replay`."""

from typing import Any

import pytest

from exporters.daily.day.facts import BoardTargets
from tokenpulse.cli.report import print_measures

TARGETS = BoardTargets(None, None, None, None, None)
MISSING = "INCOMPLETE: records of this time are missing; --json lists the gaps"


def step(start: str, complete: bool = True) -> dict[str, Any]:
    return {"start": f"2026-11-22T{start}:00Z", "measures": {"complete": complete}}


def printed(
    capsys: pytest.CaptureFixture[str], ratios: dict[str, float] | None = None, **changes: Any
) -> list[str]:
    """Return the lines of a report of ten minutes in two steps."""
    total = {
        "requests": 10,
        "duplicates": 0,
        "tokens": {"total": 0},
        "known_ratio": ratios or {},
        "provider": {"attempts": 10},
        "failures": {"streamed": 0, "unstreamed": 0, "unknown": 0},
        "client_errors": {},
        "endings": {},
        "tier_changed": 0,
        "field_faults": {},
    }
    report = {
        "from": "2026-11-22T12:00:00Z",
        "to": "2026-11-22T12:10:00Z",
        "settled_until": "2026-11-22T12:10:00Z",
        "later": None,
        "steps": [step("12:00"), step("12:05")],
        "total": total,
    }
    print_measures(report | changes, TARGETS)
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_a_settled_report_without_gaps_has_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert lines[0] == "2026-11-22T12:00:00Z to 2026-11-22T12:10:00Z"
    assert lines[1].split() == ["requests", "10"]


def test_missing_records_and_unsettled_time_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [step("12:00"), step("12:05", complete=False)]
    assert MISSING in printed(capsys, steps=steps)
    lines = printed(capsys, steps=steps, settled_until="2026-11-22T12:05:00Z")
    assert MISSING not in lines
    # Events of the last step may still arrive: that is no warning.
    told = "the step from 2026-11-22T12:05:00Z is not over, or not all of it is read yet"
    assert lines[1] == told
    steps = [step("12:00", complete=False), step("12:05", complete=False)]
    lines = printed(capsys, steps=steps, settled_until="2026-11-22T12:00:00Z")
    assert MISSING not in lines
    assert lines[1].startswith("NOT COMPLETE after 2026-11-22T12:00:00Z: ")


def test_requests_after_the_end_are_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, later={"requests": 1, "until": "2026-11-25T12:00:10Z"})
    assert lines[1] == (
        "NOT INCLUDED: 1 request after 2026-11-22T12:10:00Z, up to 2026-11-25T12:00:10Z (a clock "
        "far ahead); --to shows them"
    )
    assert sum("NOT" in line for line in lines) == 1


def test_tokens_that_no_request_has_are_unknown_and_not_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, ratios={"tokens": 0.0})
    assert "tokens      unknown, known for 0 % of requests" in lines
    assert "tokens      0" in printed(capsys, ratios={})  # of requests that all failed
