"""From stored slices to the two counts of an objective: which requests it is about, which are bad.

Pure. Names are the values of the scope's `per` dimension; without `per` there is one, empty.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import ceil, inf

import numpy as np
from pydantic import BaseModel

from slo.engine.minute_counts import Pair
from slo.policy.indicators import LatencyIndicator, RequestIndicator
from slo.policy.policy import ErrorBudgetObjective, Policy
from slo.policy.scope import Exclusion, ScopeFilter
from streams.events.decoder import OUTCOMES
from streams.events.fields import CLIENT_CLASSES
from streams.state.measures import (
    by_histogram,
    measured_threshold_counts,
    without_apart_tiers,
)
from streams.state.registry import KEY_DIMENSIONS, CustomerKey, SeriesKey
from streams.state.slices import (
    ATTEMPT_CLIENT_AT,
    ATTEMPTS_AT,
    CLIENT_AT,
    CLOCKS,
    COUNTER_BITS,
    COUNTERS,
    CUSTOMER_KNOWN_AT,
    KNOWN,
    KNOWN_AT,
    LATENCY_BITS,
    PROBE_ATTEMPT_CLIENT_AT,
    PROBE_ATTEMPTS_AT,
    PROBE_CLIENT_AT,
    PROBES_AT,
    SERIES_COLUMNS,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    Aggregate,
)
from streams.state.tables import Ints, Table

CUSTOMER_DIMENSIONS = ("customer", "model")
Combination = tuple[tuple[str, str], ...]  # of (dimension, name), each dimension once
_NEW_KEYS = {"requested_service_tier", "input_tokens", "error_classes", "view", "of"}
_NO_DEFAULT = object()
_FORMAT = 1  # raise it when the same policy would be counted in another way


_OUTSIDE, _UNCLASSIFIED = -1, -2  # instead of the number of a name


class RequestSelection:
    """The requests of one objective."""

    def __init__(
        self,
        policy: Policy,
        objective: ErrorBudgetObjective,
        token_of: Callable[[str], str],
        apart_tiers: Collection[str],
    ) -> None:
        """`token_of`: customer id -> its token in the state.

        `apart_tiers`: service tiers whose latencies count only for a scope by tier.
        """
        self._indicator, self._per = objective.indicator, objective.scope.per
        self.by_customer = "customer" in objective.scope.dimensions()
        customers = names_in_state(objective.scope, token_of).get("customer", frozenset())
        # The one customer it is about, as the state has it.
        self.customer = next(iter(customers)) if len(customers) == 1 else None
        self._dimensions = CUSTOMER_DIMENSIONS if self.by_customer else KEY_DIMENSIONS
        self._partial = [
            one for one in policy.exclusions_of(objective) if not one.where.selects_all
        ]
        self._where = _Filter(objective.scope, token_of, unknown_length=True)
        # Most failures have no usage; an exclusion would take them out of the contract.
        self._unwanted = [
            _Filter(one.where, token_of, unknown_length=False) for one in self._partial
        ]
        self.id = f"{policy.name}:{objective.name}:{_digest(objective, self._partial, apart_tiers)}"
        filters = (objective.scope, *(one.where for one in self._partial))
        self._looks_at_lengths = any(where.input_tokens is not None for where in filters)
        self.names: list[str] = []
        self._groups: dict[tuple[int, ...], Ints] = {}  # by exclusions that hold: row -> name
        # Latencies of a batch are judged only by an objective of that tier.
        self._apart_tiers = apart_tiers if _leaves_tiers_apart(objective) else frozenset()
        self._weights: tuple[Ints, Ints] | None = None
        if isinstance(self._indicator, RequestIndicator):
            probes = self._indicator.probes and not self.by_customer
            self._weights = (
                _weights(self._indicator.eligible, probes),
                _weights(self._indicator.failed, probes),
            )
            if self._indicator.view == "provider":
                known_at = CUSTOMER_KNOWN_AT if self.by_customer else KNOWN_AT
                # These are successes that no provider was asked for; success is always eligible.
                self._weights[0][known_at + KNOWN.index("response_cache")] = -1
            self._counter_weights = _counter_weights(self._indicator, probes)

    def count(
        self,
        aggregate: Aggregate,
        series: Sequence[SeriesKey],
        customers: Sequence[CustomerKey],
        from_s: int,
        to_s: int,
    ) -> dict[str, Pair]:
        """Return (total, bad) by name in a slice [from_s, to_s), of names with requests.

        An exclusion of some requests holds for a slice that lies wholly in its stretch of time.
        """
        keys, totals, bads = self.rows(aggregate, series)
        group = self.name_numbers(series, customers, from_s, to_s)[keys]
        kept = group >= 0
        sums = np.zeros((len(self.names), 2), np.int64)
        np.add.at(sums, group[kept], np.column_stack((totals[kept], bads[kept])))
        return {
            self.names[at]: (int(sums[at, 0]), int(sums[at, 1]))
            for at in np.flatnonzero(sums[:, 0]).tolist()
        }

    def has_unclassified(
        self, aggregate: Aggregate, series: Sequence[SeriesKey], from_s: int, to_s: int
    ) -> bool:
        """Return whether a slice [from_s, to_s) has requests that may be in the scope or not.

        Their input length was counted by other limits than those of the policy, or by none.
        """
        if not self._looks_at_lengths:
            return False
        groups = self._follow(self._held(from_s, to_s), series)
        return bool((groups[aggregate.series.keys] == _UNCLASSIFIED).any())

    def has_uncounted_limit(
        self, aggregate: Aggregate, series: Sequence[SeriesKey], from_s: int, to_s: int
    ) -> bool:
        """Return whether a slice [from_s, to_s) has latencies not counted by the limit."""
        if not isinstance(self._indicator, LatencyIndicator):
            return False
        if self._apart_tiers:
            aggregate = without_apart_tiers(aggregate, series, self._apart_tiers)
        # Output speed has no histogram; it is counted of the requests that have a TPOT.
        clock = self._indicator.measure
        latency = CLOCKS.index("tpot" if clock == "output_speed" else clock)
        histograms = by_histogram(aggregate.cells)[0]
        measured = histograms[histograms & ((1 << LATENCY_BITS) - 1) == latency] >> LATENCY_BITS
        groups = self._follow(self._held(from_s, to_s), series)
        mine = measured[groups[measured] >= 0]
        return bool(np.isin(mine, self._rows(aggregate)[0], invert=True).any())

    def _held(self, from_s: int, to_s: int) -> tuple[int, ...]:
        """Return the numbers of the exclusions that hold for a slice."""
        return tuple(at for at, one in enumerate(self._partial) if _covers(one, from_s, to_s))

    def combinations(self, name: str, minute: int) -> Iterator[tuple[Combination, float]]:
        """Yield the combinations of names that decide what counts for one of `names` at a minute.

        Those of the scope, and those that exclusions take out of it, each with the minute up to
        which it decides; infinity if it always does. Names as the state has them.
        """
        selected = dict(self._where.names)
        if self._per:
            selected[self._per] = frozenset({name})
        for combination in _combinations(selected):
            yield combination, inf
        for exclusion, where in zip(self._partial, self._unwanted, strict=True):
            if exclusion.from_s is not None and exclusion.from_s >= (minute + 1) * 60:
                continue
            shared = {
                dimension: names & where.names.get(dimension, names)
                for dimension, names in selected.items()
            }
            for combination in _combinations(where.names | shared):
                yield combination, inf if exclusion.to_s is None else ceil(exclusion.to_s / 60)

    @property
    def varies(self) -> bool:
        """Return whether the requests that count differ from time to time."""
        return any(one.from_s is not None for one in self._partial)

    def name_numbers(
        self,
        series: Sequence[SeriesKey],
        customers: Sequence[CustomerKey],
        from_s: int,
        to_s: int,
    ) -> Ints:
        """Return which of `names` each series (or customer row) counts for in a slice.

        It is negative for those that do not count.
        """
        return self._follow(self._held(from_s, to_s), customers if self.by_customer else series)

    def rows(self, aggregate: Aggregate, series: Sequence[SeriesKey]) -> tuple[Ints, Ints, Ints]:
        """Return series (or customer row) numbers, with the counted and the bad of each."""
        if self._apart_tiers:
            aggregate = without_apart_tiers(aggregate, series, self._apart_tiers)
        return self._rows(aggregate)

    def _rows(self, aggregate: Aggregate) -> tuple[Ints, Ints, Ints]:
        if self._weights is not None:
            table: Table = aggregate.customers if self.by_customer else aggregate.series
            total, bad = (weights[: table.values.shape[1]] for weights in self._weights)
            keys, totals, bads = table.keys, table.values @ total, table.values @ bad
            counters = aggregate.customer_counters if self.by_customer else aggregate.counters
            if not len(counters) or not self._counter_weights.any():
                return keys, totals, bads
            # One row for each counter of a series; the sums by name add them up.
            weights = self._counter_weights[counters.keys & ((1 << COUNTER_BITS) - 1)]
            counted = counters.values[:, None] * weights
            return (
                np.append(keys, counters.keys >> COUNTER_BITS),
                np.append(totals, counted[:, 0]),
                np.append(bads, counted[:, 1]),
            )
        assert isinstance(self._indicator, LatencyIndicator)
        latency = CLOCKS.index(self._indicator.measure)
        wanted = (latency << THRESHOLD_BITS) | self._indicator.limit_us
        within = measured_threshold_counts(aggregate)
        mine = (within.keys & ((1 << THRESHOLD_COUNT_BITS) - 1)) == wanted
        good, measured = within.values[mine, 0], within.values[mine, 1]
        return within.keys[mine] >> THRESHOLD_COUNT_BITS, measured, measured - good

    def _follow(self, held: tuple[int, ...], rows: Sequence[tuple[str, ...]]) -> Ints:
        known = self._groups.get(held, np.empty(0, np.int64))
        if len(rows) > len(known):
            added = [self._name(held, row) for row in rows[len(known) :]]
            known = self._groups[held] = np.append(known, np.array(added, np.int64))
        return known

    def _name(self, held: tuple[int, ...], row: tuple[str, ...]) -> int:
        """Return the number of the name that a row of the state counts for; negative if none."""
        values = dict(zip(self._dimensions, row, strict=True))
        selected = self._where.selects(values)
        excluded = [self._unwanted[at].selects(values) for at in held]
        if selected is False or True in excluded:
            return _OUTSIDE
        if selected is None or None in excluded:
            return _UNCLASSIFIED
        name = values[self._per] if self._per else ""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def _combinations(names: Mapping[str, Iterable[str]]) -> Iterator[Combination]:
    """Yield the combinations of one name of each dimension; one of no name without dimensions."""
    dimensions = sorted(names)
    for chosen in product(*(sorted(names[dimension]) for dimension in dimensions)):
        yield tuple(zip(dimensions, chosen, strict=True))


def _leaves_tiers_apart(objective: ErrorBudgetObjective) -> bool:
    is_latency = isinstance(objective.indicator, LatencyIndicator)
    return is_latency and "service_tier" not in objective.scope.dimensions()


class _Filter:
    """The requests that a part of a policy selects, by names as the state has them."""

    def __init__(
        self, where: ScopeFilter, token_of: Callable[[str], str], unknown_length: bool
    ) -> None:
        """`unknown_length`: whether requests of unknown length are selected by their length."""
        self._unknown_length = unknown_length
        self.names = names_in_state(where, token_of)
        if where.requested_service_tier:
            self.names["requested_service_tier"] = frozenset(where.requested_service_tier)
        self._lengths = where.input_tokens

    def selects(self, values: Mapping[str, str]) -> bool | None:
        """Return whether a row of the state is selected; None if its length was not counted."""
        if any(values[dimension] not in names for dimension, names in self.names.items()):
            return False
        if self._lengths is None:
            return True
        return self._lengths.contains(values["input_length"], self._unknown_length)


def names_in_state(where: ScopeFilter, token_of: Callable[[str], str]) -> dict[str, frozenset[str]]:
    """Return the names of a policy as the state has them, by dimension."""
    return {
        dimension: frozenset(map(token_of, names) if dimension == "customer" else names)
        for dimension, names in where.names().items()
    }


def _weights(outcomes: frozenset[str], probes: bool) -> Ints:
    """1 at the columns to add up. The outcomes of customer rows stand in the same places."""
    weights = np.zeros(SERIES_COLUMNS, np.int64)
    for at, outcome in enumerate(OUTCOMES):
        weights[at] = outcome in outcomes
        weights[PROBES_AT + at] = probes and outcome in outcomes
    return weights


def _counter_weights(indicator: RequestIndicator, probes: bool) -> Ints:
    """Return for each of COUNTERS whether it is added to the counted, and to the bad requests."""
    classes_at = [CLIENT_AT, PROBE_CLIENT_AT] if probes else [CLIENT_AT]
    weights = np.zeros((len(COUNTERS), 2), np.int64)
    if indicator.view == "provider":
        for at, outcome in enumerate(OUTCOMES, ATTEMPTS_AT):
            weights[at] = outcome in indicator.eligible, outcome in indicator.failed
            if probes:
                weights[at - ATTEMPTS_AT + PROBE_ATTEMPTS_AT] = weights[at]
        classes_at.append(ATTEMPT_CLIENT_AT)
        if probes:
            classes_at.append(PROBE_ATTEMPT_CLIENT_AT)
    # The classes are parts of the outcome client_error, which may be counted already.
    is_new = "client_error" not in indicator.eligible
    for first in classes_at:
        for at, name in enumerate(CLIENT_CLASSES, first):
            weights[at] = np.array((is_new, True)) & (name in indicator.error_classes)
    return weights


def _covers(exclusion: Exclusion, from_s: int, to_s: int) -> bool:
    if exclusion.from_s is None or exclusion.to_s is None:
        return True
    return exclusion.from_s <= from_s and to_s <= exclusion.to_s


def _digest(
    objective: ErrorBudgetObjective, partial: Sequence[Exclusion], apart_tiers: Collection[str]
) -> str:
    """Return a hash of the keys that decide the counts: a change starts new counts."""
    parts = [
        _FORMAT,
        _plain(objective.indicator),
        _plain(objective.scope),
        [(one.from_s, one.to_s, _plain(one.where)) for one in partial],
    ]
    if isinstance(objective.indicator, RequestIndicator) and objective.indicator.view == "provider":
        # Older counts of this view have the answers from response caches among the successes.
        parts.append("without response caches")
    if _leaves_tiers_apart(objective):
        parts.append(sorted(apart_tiers))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _plain(model: BaseModel) -> list[tuple[str, str]]:
    found = {key: getattr(model, key) for key in type(model).model_fields}
    # Keys that came later are left out at their default, so that older counts stay in use.
    defaults = {key: type(model).model_fields[key].default for key in _NEW_KEYS & found.keys()}
    found = {key: value for key, value in found.items() if value != defaults.get(key, _NO_DEFAULT)}
    return [
        (key, str(sorted(value) if isinstance(value, frozenset) else value))
        for key, value in sorted(found.items())
    ]
