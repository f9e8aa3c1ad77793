"""Past samples, for rules that read a range of time: `increase`, `rate` and `deriv`.

Pure. As in Prometheus 2: a range holds its first instant, a counter that falls has restarted at
zero, and a rise is extrapolated to the ends of its range.

Source: https://github.com/prometheus/prometheus/blob/v2.42.0/promql/functions.go
"""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slo.alert_state import SampleKey, Samples, Vector

# Between two rows, as if Prometheus scraped: the counters by series are thousands of samples.
EVERY_S = 5.0
_SPARE_COLUMNS = 100  # of series that disappeared, before the rows are written anew
_NEAR = 1.1  # mean distances of two samples: a first sample so near to its range's begin is its end

Floats = NDArray[np.float64]
# Times, rows of values, begin and end of the range -> a value for each column.
_Reduce = Callable[[Floats, Floats, float, float], Floats]


class _SampleRows:
    """The samples of one metric: a row for each instant, a column for each series."""

    def __init__(self) -> None:
        self.span_s = 0.0  # the longest range that is read
        self.columns: dict[SampleKey, int] = {}
        self.times_s: list[float] = []
        self.rows: list[Floats] = []  # as long as there were columns then; NaN if absent

    def add(self, vector: Vector, now_s: float) -> None:
        for key in vector:
            self.columns.setdefault(key, len(self.columns))
        # Series that are absent now stay NaN in this row.
        row = np.full(len(self.columns), np.nan)
        row[[self.columns[key] for key in vector]] = list(vector.values())
        self.times_s.append(now_s)
        self.rows.append(row)
        # Rows older than the longest range are read by no rule.
        past = bisect_left(self.times_s, now_s - self.span_s)
        del self.times_s[:past], self.rows[:past]
        if len(self.columns) > 2 * len(vector) + _SPARE_COLUMNS:
            self._drop_empty_columns()

    def since(self, from_s: float) -> tuple[Floats, Floats]:
        """Return times, and rows of values as wide as there are columns, from `from_s` on."""
        first = bisect_left(self.times_s, from_s)
        values = np.full((len(self.rows) - first, len(self.columns)), np.nan)
        for at, row in enumerate(self.rows[first:]):
            values[at, : len(row)] = row
        return np.array(self.times_s[first:]), values

    def _drop_empty_columns(self) -> None:
        _, values = self.since(-np.inf)
        is_filled: NDArray[np.bool_] = np.any(~np.isnan(values), axis=0)
        keys = [key for key, column in self.columns.items() if is_filled[column]]
        self.columns = {key: column for column, key in enumerate(keys)}
        self.rows = list(values[:, is_filled])


class History:
    """The samples of the ranges that rules read."""

    def __init__(self) -> None:
        self._metrics: dict[str, _SampleRows] = {}
        self._added_s = -np.inf

    def keep(self, metric: str, span_s: float) -> None:
        """Keep samples of a metric for at least `span_s` from now on."""
        rows = self._metrics.setdefault(metric, _SampleRows())
        rows.span_s = max(rows.span_s, span_s)

    def add(self, samples: Samples, now_s: float) -> bool:
        """Add the samples of one instant, and return whether EVERY_S had passed; times rise."""
        is_due = now_s - self._added_s >= EVERY_S
        if is_due:
            self._added_s = now_s
            for metric, rows in self._metrics.items():
                rows.add(samples.get(metric, {}), now_s)
        return is_due

    def increase(self, metric: str, span_s: float, now_s: float) -> dict[SampleKey, float]:
        """Return by how much each counter rose in the `span_s` before `now_s`.

        Series with fewer than two samples in the range are left out.
        """
        return self._reduce(metric, span_s, now_s, _increase)

    def deriv(self, metric: str, span_s: float, now_s: float) -> dict[SampleKey, float]:
        """Return the slope a second of the straight line through the samples of each gauge."""
        return self._reduce(metric, span_s, now_s, _slope)

    def _reduce(
        self, metric: str, span_s: float, now_s: float, reduce: _Reduce
    ) -> dict[SampleKey, float]:
        rows = self._metrics[metric]
        times, values = rows.since(now_s - span_s)
        # As in Prometheus, one sample is neither a rise nor a slope.
        enough = (~np.isnan(values)).sum(axis=0) >= 2
        if not enough.any():
            return {}
        results = np.full(len(rows.columns), np.nan)
        results[enough] = reduce(times, values[:, enough], now_s - span_s, now_s)
        return {key: float(results[at]) for key, at in rows.columns.items() if enough[at]}


def _increase(times: Floats, values: Floats, begin_s: float, end_s: float) -> Floats:
    """Return the extrapolated rise of each column, which has at least two values."""
    count, columns = len(values), np.arange(values.shape[1])
    is_sample = ~np.isnan(values)
    # The row of the newest sample at or before each row; 0 before the first sample.
    newest = np.maximum.accumulate(np.where(is_sample, np.arange(count)[:, None], 0))
    before = values[newest[:-1], columns]
    is_restart = is_sample[1:] & (values[1:] < before)  # false against NaN
    first, last = is_sample.argmax(axis=0), newest[-1]
    first_value = values[first, columns]
    rise = values[last, columns] - first_value + np.where(is_restart, before, 0).sum(axis=0)
    sampled_s = times[last] - times[first]
    mean_s = sampled_s / (is_sample.sum(axis=0) - 1)
    to_begin_s, to_end_s = times[first] - begin_s, end_s - times[last]
    # A counter is not extrapolated to below zero.
    can_reach_zero = (rise > 0) & (first_value >= 0)
    to_zero_s = sampled_s * first_value / np.where(can_reach_zero, rise, 1)
    to_begin_s = np.where(can_reach_zero, np.minimum(to_begin_s, to_zero_s), to_begin_s)
    # A series that begins or ends within the range is extrapolated by half a distance only.
    covered_s = sampled_s + sum(
        np.where(gap_s < mean_s * _NEAR, gap_s, mean_s / 2) for gap_s in (to_begin_s, to_end_s)
    )
    extrapolated: Floats = rise * (covered_s / sampled_s)
    return extrapolated


def _slope(times: Floats, values: Floats, begin_s: float, end_s: float) -> Floats:
    """Return the slope of each column by the method of least squares."""
    is_sample = ~np.isnan(values)
    count = is_sample.sum(axis=0)
    x = np.where(is_sample, (times - times[0])[:, None], 0)
    # Relative to the first sample, so that a constant has a slope of exactly zero.
    y = np.where(is_sample, values - values[is_sample.argmax(axis=0), np.arange(len(count))], 0)
    covariance = (x * y).sum(axis=0) - x.sum(axis=0) * y.sum(axis=0) / count
    variance = (x * x).sum(axis=0) - x.sum(axis=0) ** 2 / count
    slope: Floats = covariance / variance
    return slope
