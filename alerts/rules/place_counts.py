"""Recording rules for the requests and failures of each place, which the rules on outages read.

Pure. The exporter publishes single series, of which a large fleet has thousands. The rules on
outages compare sums of them more than a hundred times, so they are added up once an evaluation: by
cell (one model in one region) from the series; by region, by model and of the fleet from the cells.
They are whole numbers, so the order in which they are added changes nothing.

A group is evaluated from top to bottom, and each rule sees what those before it recorded. So a
record must stand in the same group as its readers: then it delays no alert.
"""

from alerts.promql import any_of, newest, total_of
from alerts.rules.model import RecordingRule
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import CELL_WINDOW
from streams.state.measures import SERIES_DIMENSIONS

CELL = "model_region"  # scope of one model in one region
CELL_LABELS = ("model", "region")
_LEVELS = {CELL_LABELS: CELL, ("region",): "region", ("model",): "model", (): "fleet"}
_LEVEL_OF = {frozenset(by): level for by, level in _LEVELS.items()}
_ELIGIBLE, _FAILED = "tokenpulse_eligible_requests", "tokenpulse_failed_requests"


def eligible(by: tuple[str, ...]) -> str:
    """Return PromQL for the requests that count for availability, over CELL_WINDOW."""
    return _record_name(_ELIGIBLE, by)


def failures(by: tuple[str, ...]) -> str:
    """Return PromQL for the failures among them: whole numbers."""
    return _record_name(_FAILED, by)


def place_records() -> tuple[RecordingRule, ...]:
    """Return the records that `eligible` and `failures` read."""
    matchers = {"scope": any_of(("series",)), "window": any_of((CELL_WINDOW,))}
    ratio, requests = (
        newest(spec, matchers, SERIES_DIMENSIONS)
        for spec in (catalogue.AVAILABILITY_RATIO, catalogue.WINDOW_ELIGIBLE_REQUESTS)
    )
    # Ratio times requests is a whole number but for the rounding of floats.
    counts = {_ELIGIBLE: requests, _FAILED: f"round((1 - {ratio}) * {requests})"}
    return tuple(
        RecordingRule(
            _record_name(metric, by),
            total_of(count if by == CELL_LABELS else _record_name(metric, CELL_LABELS), by),
        )
        for metric, count in counts.items()
        for by in _LEVELS
    )


def _record_name(metric: str, by: tuple[str, ...]) -> str:
    """Return a name as Prometheus' naming of records has it: level, metric, operation."""
    # In any order of the labels, but not for labels without a record.
    return f"{_LEVEL_OF[frozenset(by)]}:{metric}:sum{CELL_WINDOW}"
