"""Aggregates of events."""

from typing import Any

from streams.state.aggregation import record
from streams.state.slices import Aggregate
from tests.support.oracle import LIMITS, judge


def counted(
    log: list[Any],
) -> tuple[Aggregate, list[tuple[str, str, str, str]], list[tuple[str, str]]]:
    """The whole log as one aggregate, with the names of its one batch."""
    columns = judge(log).columns
    parts = record(columns, columns.series_index, columns.cube_index, LIMITS)
    return Aggregate.merged([part for _, part in parts]), columns.series, columns.cubes
