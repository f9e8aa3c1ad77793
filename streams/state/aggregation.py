"""Decoded events to aggregates: one batch counted with array operations.

Pure. slices.py defines the tables of an aggregate.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.events.columns import Columns, Decoded
from streams.events.faults import faults_in
from streams.events.fields import CLIENT_CLASSES, ELIGIBLE, MAX_LATENCY_MS, OUTCOMES
from streams.state import histogram
from streams.state.edges import EVERYTHING_US
from streams.state.slices import (
    ATTEMPT_CLIENT_AT,
    ATTEMPT_TOKENS_AT,
    ATTEMPTS_AT,
    CELL_BITS,
    CLIENT_AT,
    COUNTER_BITS,
    CUSTOMER_COLUMNS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    ENDING_TOKENS_AT,
    ENDINGS_AT,
    FAILED_STREAMED_AT,
    FAILED_UNSTREAMED_AT,
    KNOWN_AT,
    LATENCY_BITS,
    LEVELS,
    PROBE_ATTEMPT_CLIENT_AT,
    PROBE_ATTEMPTS_AT,
    PROBE_CLIENT_AT,
    PROBES_AT,
    SERIES_COLUMNS,
    SUM_COLUMNS,
    THRESHOLD_BITS,
    TIER_CHANGED_AT,
    TOKENS_AT,
    Aggregate,
    Thresholds,
    fault_key,
    rejection_counts,
)
from streams.state.tables import Ints, Table

# Recorded events are keyed by their slot first, so that one sort serves all slots of a batch.
_SERIES_BITS = 28  # config.Limits keeps the numbers below 2**28
_THRESHOLD_INDEX_BITS = 8
_SUCCESS, _STREAM_ERROR = OUTCOMES.index("success"), OUTCOMES.index("stream_error")
_IS_FAILURE = np.array([name in ELIGIBLE and name != "success" for name in OUTCOMES])
_FAULT_BITS = 16  # of a fault's key
# Columns that an attempt before the final one has none of, as it is no request.
_OF_REQUESTS = (
    *("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens"),
    *("reasoning_tokens", "has_tokens", "has_cached", "estimated", "from_cache"),
)


def record(
    columns: Columns, series: Ints, customer: Ints, thresholds: Thresholds
) -> list[tuple[int, Aggregate]]:
    """Count events into the finest slices: [(start_s, aggregate), ...], rising.

    `series` and `customer`: the registry's number for each event's series and customer row.
    """
    if len(columns.ended_at_ms) == 0:
        return []
    step_s = LEVELS[0].step_s
    starts, slot = np.unique(columns.ended_at_ms // (1_000 * step_s), return_inverse=True)
    rows = _distinct(slot, series)
    # Attempts that were not final have latencies, but are no request of a customer.
    final = _only_final(columns)
    known = _known_columns(final)
    real = ~columns.probe & columns.final
    amounts = _counter_amounts(columns)

    parts = {
        "series": (_series_rows(final, rows, known), _SERIES_BITS),
        "cells": (_cells(columns, rows), _SERIES_BITS + CELL_BITS),
        "customers": (
            _customer_rows(columns, _distinct(slot[real], customer[real]), real, known),
            _SERIES_BITS,
        ),
        "counters": (
            _counters(slot, series, [*amounts, *_probe_amounts(columns)]),
            _SERIES_BITS + COUNTER_BITS,
        ),
        "customer_counters": (_counters(slot, customer, amounts), _SERIES_BITS + COUNTER_BITS),
    }
    tables: dict[str, dict[int, Table]] = {
        name: dict(table.split(bits)) for name, (table, bits) in parts.items()
    }
    tables["threshold_counts"] = {
        at: _by_threshold(part, thresholds)
        for at, part in _within(columns, rows, thresholds).split(
            _SERIES_BITS + LATENCY_BITS + _THRESHOLD_INDEX_BITS
        )
    }
    tables["rejected"] = dict(_fault_rows(columns, slot).split(_FAULT_BITS))
    nothing = Aggregate.empty()
    return [
        (
            start * step_s,
            replace(nothing, **{name: of[at] for name, of in tables.items() if at in of}),
        )
        for at, start in enumerate(starts.tolist())
    ]


def record_totals(
    columns: Columns, series: Ints, edges: Thresholds, slices: Sequence[Aggregate]
) -> Aggregate:
    """Count events for the totals that only rise.

    These are requests, tokens, counters, faults, and requests at or under each edge of the
    exported histograms. `slices`: what `record` returned for the same events.
    """
    if not slices:
        return Aggregate.empty()
    rows = _distinct(np.zeros_like(series), series)
    # A latency beyond the last edge, which stands for +Inf, is counted at that edge.
    within = _within(columns, rows, edges, EVERYTHING_US * 1_000)
    return replace(
        Aggregate.empty(),
        series=Table.merged([aggregate.series for aggregate in slices]),
        threshold_counts=_by_threshold(within, edges),
        rejected=Table.merged([aggregate.rejected for aggregate in slices]),
        counters=Table.merged([aggregate.counters for aggregate in slices]),
    )


def place_rejections(
    decoded: Decoded, unplaced: Mapping[str, int]
) -> tuple[list[tuple[int, Aggregate]], dict[str, int]]:
    """Return the rejected records and duplicates by slice, and those that have no slice yet.

    They are counted in the slice of the watermark. `unplaced`: records by reason that were rejected
    before the first accepted event of the log; they are counted in the slice of that event.
    """
    by_slice: defaultdict[int, Counter[str]] = defaultdict(Counter)
    twice = Counter((decoded.duplicates_ms // 10_000 * 10).tolist())
    waiting = Counter(unplaced)
    for rejection in decoded.rejections:
        if rejection.watermark_ms is None:
            waiting[rejection.reason] += 1
        else:
            by_slice[rejection.watermark_ms // 10_000 * 10][rejection.reason] += 1
    if waiting and len(decoded.columns.ended_at_ms):
        by_slice[int(decoded.columns.ended_at_ms[0]) // 10_000 * 10].update(waiting)
        waiting = Counter()
    placed = [
        (at, rejection_counts(by_slice.get(at, {}), twice[at]))
        for at in sorted({*by_slice, *twice})
    ]
    return placed, waiting


def _only_final(columns: Columns) -> Columns:
    """Return the columns with the amounts of final attempts only."""
    final = columns.final
    if final.all():
        return columns
    return replace(columns, **{name: getattr(columns, name) * final for name in _OF_REQUESTS})


def _known_columns(columns: Columns) -> tuple[npt.NDArray[Any], ...]:
    """Return one array for each of KNOWN."""
    success = columns.outcome == _SUCCESS
    spent = columns.input_tokens + columns.output_tokens
    return (
        columns.has_tokens & success,
        columns.has_cached & success,
        columns.input_tokens * columns.has_cached,
        columns.estimated,
        spent * columns.estimated,
        columns.from_cache,
        columns.streamed,
    )


def _fault_rows(columns: Columns, slot: Ints) -> Table:
    """Count the faults of fields; keys are (slot, key of the fault)."""
    tables = [
        Table.counted((slot[marked] << _FAULT_BITS) | fault_key(fault))
        for fault, marked in faults_in(columns.faults)
    ]
    return Table.merged(tables) if tables else Table.empty()


def _counter_amounts(columns: Columns) -> list[tuple[Ints, Ints, Ints]]:
    """Return (events, counters, amounts): what is added to which counter, by index of the event.

    Most batches have no such amount.
    """
    found = []
    real = ~columns.probe & columns.final
    passed_on = ~columns.probe & ~columns.final
    if passed_on.any():
        attempts = np.flatnonzero(passed_on)
        outcomes = ATTEMPTS_AT + columns.outcome[attempts].astype(np.int64)
        found.append((attempts, outcomes, np.ones_like(attempts)))
        for i, tokens in enumerate(columns.tokens):
            found.append(
                (attempts, np.full_like(attempts, ATTEMPT_TOKENS_AT + i), tokens[attempts])
            )
    found += _client_errors(columns, {CLIENT_AT: real, ATTEMPT_CLIENT_AT: passed_on})
    if columns.ending.max(initial=-1) >= 0:
        ended = np.flatnonzero(real & (columns.ending >= 0))
        ending = columns.ending[ended].astype(np.int64)
        found.append((ended, ENDINGS_AT + ending, np.ones_like(ended)))
        found.append((ended, ENDING_TOKENS_AT + ending, columns.output_tokens[ended]))
    if columns.tier_changed.any():
        changed = np.flatnonzero(real & columns.tier_changed)
        found.append((changed, np.full_like(changed, TIER_CHANGED_AT), np.ones_like(changed)))
    failed = np.flatnonzero(_IS_FAILURE[columns.outcome] & real)
    if len(failed):
        # Only a streamed answer can end early, also if the event does not have the flag.
        is_streamed = (columns.stream[failed] == 1) | (columns.outcome[failed] == _STREAM_ERROR)
        is_known = is_streamed | (columns.stream[failed] == 0)
        counter = np.where(is_streamed, FAILED_STREAMED_AT, FAILED_UNSTREAMED_AT)[is_known]
        found.append((failed[is_known], counter, np.ones_like(counter)))
    return found


def _client_errors(
    columns: Columns, places: Mapping[int, npt.NDArray[np.bool_]]
) -> list[tuple[Ints, Ints, Ints]]:
    """Return client errors by class as amounts; `places`: first counter -> the events it counts."""
    client = columns.error_class
    if client.max(initial=-1) < 0:
        return []
    found = []
    for first, selected in places.items():
        failed = np.flatnonzero(selected & (client >= 0) & (client < len(CLIENT_CLASSES)))
        found.append((failed, first + client[failed].astype(np.int64), np.ones_like(failed)))
    return found


def _probe_amounts(columns: Columns) -> list[tuple[Ints, Ints, Ints]]:
    """Return the amounts of probes, which are no requests, as `_counter_amounts` does.

    Those that were not final count for the provider's availability only.
    """
    if not columns.probe.any():
        return []
    final, passed_on = columns.probe & columns.final, columns.probe & ~columns.final
    events = np.flatnonzero(passed_on)
    counter = PROBE_ATTEMPTS_AT + columns.outcome[events].astype(np.int64)
    classes = _client_errors(columns, {PROBE_CLIENT_AT: final, PROBE_ATTEMPT_CLIENT_AT: passed_on})
    return [(events, counter, np.ones_like(events)), *classes]


def _counters(slot: Ints, number: Ints, amounts: Sequence[tuple[Ints, Ints, Ints]]) -> Table:
    """Return the sums of counters by (slot, number, counter); amounts of zero are left out."""
    if not amounts:
        return Table.empty()
    events, counters, values = map(np.concatenate, zip(*amounts, strict=True))
    filled = values > 0
    name = (slot[events[filled]] << _SERIES_BITS) | number[events[filled]]
    return Table.summed((name << COUNTER_BITS) | counters[filled], values[filled])


class _NumberedRows(NamedTuple):
    """Distinct (slot, number) of some events: their keys, rising, and each event's place there."""

    keys: Ints
    at: Ints


def _distinct(slot: Ints, number: Ints) -> _NumberedRows:
    if len(number) == 0:
        return _NumberedRows(number, number)
    width = int(number.max()) + 1
    cells = (int(slot.max()) + 1) * width
    if cells > 8 * len(number) + 1_024:
        keys, at = np.unique((slot << _SERIES_BITS) | number, return_inverse=True)
        return _NumberedRows(keys, at)
    # Few enough to mark them on a board instead of sorting: several times faster.
    cell = slot * width + number
    taken = np.bincount(cell, minlength=cells) > 0
    filled = np.flatnonzero(taken)
    keys = (filled // width << _SERIES_BITS) | filled % width
    return _NumberedRows(keys, (np.cumsum(taken) - 1)[cell])


def _sum_rows(
    rows: _NumberedRows,
    width: int,
    outcome: Ints,
    columns: Mapping[int, npt.NDArray[Any]],
    counts: npt.NDArray[np.bool_] | None = None,
) -> Table:
    """Count each event in column `outcome` of its row, and add amounts to other columns.

    `counts`: the events that count in `outcome`; None for all.
    """
    count = len(rows.keys)
    cell = rows.at * width + outcome
    flat = np.bincount(cell if counts is None else cell[counts], minlength=count * width)
    values = flat.astype(np.int64).reshape(count, width)
    for column, amount in columns.items():
        if not amount.any():
            continue
        # bincount adds in float64, exact below 2**53; larger sums take the slow exact way.
        if int(amount.max(initial=0)) * len(amount) < 1 << 53:
            values[:, column] += np.bincount(rows.at, weights=amount, minlength=count).astype(
                np.int64
            )
        else:
            np.add.at(values[:, column], rows.at, amount)
    return Table(rows.keys, values)


def _series_rows(columns: Columns, rows: _NumberedRows, known: Sequence[npt.NDArray[Any]]) -> Table:
    outcome = columns.outcome.astype(np.int64) + np.where(columns.probe, PROBES_AT, 0)
    # Probes come without tokens and latencies: decoding sees to that.
    amounts = {TOKENS_AT + i: tokens for i, tokens in enumerate(columns.tokens)}
    for column, value in zip(SUM_COLUMNS, columns.latencies_ns, strict=True):
        amounts[column] = np.where(value >= 0, (value + 500) // 1_000, 0)
    amounts |= {KNOWN_AT + i: amount for i, amount in enumerate(known)}
    counts = None if columns.final.all() else columns.final
    return _sum_rows(rows, SERIES_COLUMNS, outcome, amounts, counts)


def _customer_rows(
    columns: Columns,
    rows: _NumberedRows,
    real: npt.NDArray[np.bool_],
    known: Sequence[npt.NDArray[Any]],
) -> Table:
    amounts = {CUSTOMER_TOKENS_AT + i: tokens[real] for i, tokens in enumerate(columns.tokens)}
    amounts |= {CUSTOMER_KNOWN_AT + i: amount[real] for i, amount in enumerate(known)}
    return _sum_rows(rows, CUSTOMER_COLUMNS, columns.outcome[real].astype(np.int64), amounts)


def _cells(columns: Columns, rows: _NumberedRows) -> Table:
    keys = []
    for number, values in enumerate(columns.latencies_ns):
        known = values >= 0
        if not known.any():
            continue
        cell = (number << histogram.BUCKET_BITS) | histogram.bucket_of(values[known])
        keys.append((rows.keys[rows.at[known]] << CELL_BITS) | cell)
    return Table.counted(np.concatenate(keys)) if keys else Table.empty()


def _within(
    columns: Columns,
    rows: _NumberedRows,
    thresholds: Thresholds,
    longest_ns: int = MAX_LATENCY_MS * 10**6,
) -> Table:
    """Count requests at or under thresholds; keys are (row, latency, index of the threshold).

    Longer latencies than `longest_ns` are counted as it.
    """
    keys, counts = [], []
    clocks = (*columns.latencies_ns, None)
    for number, (latency_ns, limits_us) in enumerate(zip(clocks, thresholds, strict=True)):
        if not limits_us:
            continue
        values = columns.output_speed_ns if latency_ns is None else latency_ns
        known = values >= 0
        if not known.any():
            continue
        limits_ns = np.array(limits_us, np.int64) * 1_000
        taken_ns = np.minimum(values[known], longest_ns)
        first = np.searchsorted(limits_ns, taken_ns, side="left")  # first limit >= value
        width = len(limits_us) + 1
        flat = np.bincount(rows.at[known] * width + first, minlength=len(rows.keys) * width)
        by_limit = flat.astype(np.int64).reshape(len(rows.keys), width)
        measured = by_limit.any(axis=1)
        key = (rows.keys[measured] << LATENCY_BITS) | number
        index = np.arange(len(limits_us), dtype=np.int64)
        keys.append(((key << _THRESHOLD_INDEX_BITS)[:, None] | index[None, :]).ravel())
        counts.append(np.cumsum(by_limit[measured], axis=1)[:, :-1].ravel())
    if not keys:
        return Table.empty()
    return Table.summed(np.concatenate(keys), np.concatenate(counts))


def _by_threshold(part: Table, thresholds: Thresholds) -> Table:
    """Replace the index of a threshold by the threshold itself, which outlives a configuration."""
    size = 1 << _THRESHOLD_INDEX_BITS
    limit_us = np.zeros((1 << LATENCY_BITS, size), np.int64)
    for number, limits in enumerate(thresholds):
        limit_us[number, : len(limits)] = limits
    latency = (part.keys >> _THRESHOLD_INDEX_BITS) & ((1 << LATENCY_BITS) - 1)
    row = part.keys >> _THRESHOLD_INDEX_BITS
    keys = (row << THRESHOLD_BITS) | limit_us[latency, part.keys & (size - 1)]
    return Table(keys, part.values)
