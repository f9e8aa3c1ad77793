"""Aggregates of events."""

from typing import Any

import numpy as np

from streams.events.columns import Columns, SeriesKey
from streams.state.aggregation import record
from streams.state.slices import Aggregate
from tests.support.oracle import judge
from tests.support.oracle_counts import LIMITS


def parts_of(columns: Columns) -> list[tuple[int, Aggregate]]:
    """The aggregates of one batch, numbered as the batch numbers its names."""
    series, customer = (
        numbers.astype(np.int64) for numbers in (columns.series_index, columns.customer_index)
    )
    return record(columns, series, customer, LIMITS)


def counted(
    log: list[Any],
) -> tuple[Aggregate, list[SeriesKey], list[tuple[str, str]]]:
    """The whole log as one aggregate, with the names of its one batch."""
    columns = judge(log).columns
    parts = [part for _, part in parts_of(columns)]
    return Aggregate.merged(parts), columns.series, columns.customers
