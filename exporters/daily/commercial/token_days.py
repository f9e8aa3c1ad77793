"""Collect the tokens of each day by name, and the growth of the names that a board shows.

Pure. Days within the slices are read from their sums, days beyond them from their stored counts.
Customers are given by token.
"""

from collections.abc import Mapping, Sequence
from datetime import date as Date
from typing import NamedTuple

import numpy as np

from exporters.daily.commercial.growth import REFERENCE_DAYS, DailyTokens, growth_row
from exporters.daily.day.counts import Groups
from exporters.daily.day.facts import Day, GrowthRow, Segment
from exporters.daily.day.history import DayCounts
from exporters.daily.day.metrics import NOT_LISTED
from exporters.daily.day.trends import HISTORY_DAYS
from exporters.reference.customers import Customer
from exporters.windows.incremental import CUSTOMER, Grouping, Sums
from exporters.windows.measured import INPUT_AT, OUTPUT_AT
from streams.state.registry import OTHER
from streams.state.slices import CUSTOMER_TOKENS_AT, TOKENS_AT

NAMES_SHOWN = 5  # of each dimension
_MODEL = "model"


class _Names(NamedTuple):
    """The tokens of each name of one dimension; one row a name, one column a day."""

    names: list[str]
    tokens: DailyTokens


def growth_of(
    days: Sequence[Day],
    history: Sequence[DayCounts],
    details: Mapping[str, Groups],
    scopes: Mapping[str, Grouping],
    customers: Mapping[str, Customer],
) -> tuple[GrowthRow, ...]:
    """Return the growth of all traffic, then of the largest models, segments and customers.

    The arguments are those of `tokens_by_name`; the last day is the board's.
    """
    last = Date.fromisoformat(days[-1].date)
    is_running = days[-1].state == "running"
    # An incomplete day would look like a fall.
    complete = np.array([day.complete for day in days[-HISTORY_DAYS:]])
    return tuple(
        growth_row(dimension, name, tokens, last, complete=complete, is_running=is_running)
        for dimension, name, tokens in tokens_by_name(days, history, details, scopes, customers)
    )


def tokens_by_name(
    days: Sequence[Day],
    history: Sequence[DayCounts],
    details: Mapping[str, Groups],
    scopes: Mapping[str, Grouping],
    customers: Mapping[str, Customer],
) -> list[tuple[str, str, DailyTokens]]:
    """Return dimension, name and daily tokens of all traffic and of the largest names.

    `days` and `history`: the same days, oldest first; the last HISTORY_DAYS of them are used.
    `details`: by date, the stored groups of days that the slices no longer cover.
    """
    days, history = days[-HISTORY_DAYS:], history[-HISTORY_DAYS:]
    by_model = _names(_MODEL, history, details, scopes)
    by_customer = _names(CUSTOMER, history, details, scopes)
    tables = [
        ("fleet", _Names([""], daily_tokens(days)[None, :])),
        (_MODEL, by_model),
        ("segment", _segments(by_customer, history, customers)),
        (CUSTOMER, by_customer),
    ]
    return [
        (dimension, table.names[at], table.tokens[at])
        for dimension, table in tables
        for at in _largest(table)
    ]


def daily_tokens(days: Sequence[Day]) -> DailyTokens:
    """Return the tokens of each day; NaN if they are not known."""
    values = [day.values.tokens.value for day in days]
    return np.array([np.nan if value is None else value for value in values])


def _largest(table: _Names) -> list[int]:
    """Return the rows of the names with most tokens in the last 28 days."""
    sums = np.nansum(table.tokens[:, -REFERENCE_DAYS:], axis=1)
    # OTHER is no name; stable, so that equal names keep their order.
    order = [int(at) for at in np.argsort(-sums, kind="stable") if sums[at] > 0]
    return [at for at in order if table.names[at] != OTHER][:NAMES_SHOWN]


def _names(
    dimension: str,
    history: Sequence[DayCounts],
    details: Mapping[str, Groups],
    scopes: Mapping[str, Grouping],
) -> _Names:
    """Return the tokens of all names of a dimension; NaN on days without data."""
    names = [key[0] for key in scopes[dimension].keys]
    stored = {name for groups in details.values() for name in groups.get(dimension, {})}
    names += sorted(stored - set(names))
    row_of = {name: row for row, name in enumerate(names)}
    tokens = np.full((len(names), len(history)), np.nan)
    for column, counts in enumerate(history):
        if counts.parts is not None:
            tokens[:, column] = 0
            for part in counts.parts:
                sums = part.summary[dimension]
                # The numbers of the groups are their rows.
                tokens[sums.counts.keys, column] += _token_sums(dimension, sums)
        elif counts.day.date in details:
            groups = details[counts.day.date].get(dimension, {})
            # With a rest, a name that is not stored may be part of it.
            tokens[:, column] = np.nan if OTHER in groups else 0
            for name, stored_counts in groups.items():
                tokens[row_of[name], column] = stored_counts.tokens
        # On a day without any tokens, the single names are not known either.
        if not np.nansum(tokens[:, column]):
            tokens[:, column] = np.nan
    return _Names(names, tokens)


def _token_sums(dimension: str, sums: Sums) -> DailyTokens:
    first = CUSTOMER_TOKENS_AT if dimension == CUSTOMER else TOKENS_AT
    values = sums.counts.values
    total: DailyTokens = (values[:, first + INPUT_AT] + values[:, first + OUTPUT_AT]).astype(float)
    return total


def _segments(
    by_customer: _Names, history: Sequence[DayCounts], customers: Mapping[str, Customer]
) -> _Names:
    """Return the tokens of each segment; none without a customer directory."""
    names = sorted({customer.segment for customer in customers.values()})
    row_of = {name: row for row, name in enumerate(names)}
    tokens = np.full((len(names), len(history)), np.nan)
    segment_of = [
        row_of.get(customers[name].segment if name in customers else NOT_LISTED, -1)
        for name in by_customer.names
    ]
    rows = np.array(segment_of, np.int64)
    for column, counts in enumerate(history):
        if counts.parts is not None:
            known = (rows >= 0) & ~np.isnan(by_customer.tokens[:, column])
            if known.any():
                tokens[:, column] = np.bincount(
                    rows[known], by_customer.tokens[known, column], len(names)
                )
        elif counts.record is not None:
            _fill_stored(tokens[:, column], counts.record.segments, row_of)
    return _Names(names, tokens)


def _fill_stored(
    column: DailyTokens, segments: Sequence[Segment], row_of: Mapping[str, int]
) -> None:
    """Set the tokens of each segment of a final day; one without traffic has none."""
    if segments:
        column[:] = 0
    for segment in segments:
        if segment.name in row_of:
            column[row_of[segment.name]] = np.nan if segment.tokens is None else segment.tokens
