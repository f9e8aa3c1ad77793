"""Amounts that most requests do not have, such as attempts and endings, by group of a window.

Pure. They are in the sparse counters of the state (streams/state/slices.py), so a window without
them costs no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporters.windows.incremental import Sums
from exporters.windows.measured import ELIGIBLE_AT, FROM_CACHE_AT, SUCCESS_AT, Amounts
from streams.events.fields import OUTCOMES
from streams.state.slices import (
    ATTEMPT_TOKENS_AT,
    ATTEMPTS_AT,
    COUNTER_BITS,
    KNOWN_AT,
    PROBE_ATTEMPTS_AT,
    PROBES_AT,
    TOKENS_AT,
)
from streams.state.tables import Ints, Table


@dataclass(frozen=True, slots=True)
class ProviderAttempts(Amounts):
    """All attempts of a group, final or not, as the provider answered them; without tokens."""

    outcomes: Sequence[int] = ()  # in the order of OUTCOMES, without probes


def attempts(sums: Sums) -> dict[int, ProviderAttempts]:
    """Return the attempts of each group; empty if they are the same as the requests.

    They are the same if all attempts were final, and no answer came from a gateway's response
    cache, for which no provider was asked.
    """
    passed_on = _between(sums.counters, ATTEMPTS_AT, ATTEMPT_TOKENS_AT)
    probes = _between(sums.counters, PROBE_ATTEMPTS_AT, PROBE_ATTEMPTS_AT + len(OUTCOMES))
    from_cache = sums.counts.values[:, KNOWN_AT + FROM_CACHE_AT]
    if not len(passed_on) and not len(probes) and not from_cache.any():
        return {}
    # A group may have attempts but no requests, if other groups answered all of them.
    groups = np.union1d(sums.counts.keys, np.append(passed_on.keys, probes.keys) >> COUNTER_BITS)
    at = np.searchsorted(groups, sums.counts.keys)
    outcomes = np.zeros((len(groups), len(OUTCOMES)), np.int64)
    outcomes[at] = sums.counts.values[:, :PROBES_AT]
    outcomes[at, SUCCESS_AT] -= from_cache
    _add_by_outcome(outcomes, groups, passed_on, ATTEMPTS_AT)
    # Probes count for availability, but are no attempts at a customer's request.
    counted = outcomes.copy()
    counted[at] += sums.counts.values[:, PROBES_AT:TOKENS_AT]
    _add_by_outcome(counted, groups, probes, PROBE_ATTEMPTS_AT)
    return {
        group: ProviderAttempts(sum(row), eligible, successes, outcomes=row)
        for group, row, eligible, successes in zip(
            groups.tolist(),
            outcomes.tolist(),
            counted[:, ELIGIBLE_AT].sum(axis=1).tolist(),
            counted[:, SUCCESS_AT].tolist(),
            strict=True,
        )
    }


def _add_by_outcome(outcomes: Ints, groups: Ints, counters: Table, begin: int) -> None:
    """Add counters by outcome, of which the first is `begin`, to the rows of their groups."""
    row = np.searchsorted(groups, counters.keys >> COUNTER_BITS)
    outcomes[row, (counters.keys & ((1 << COUNTER_BITS) - 1)) - begin] += counters.values


def amounts(sums: Sums, begin: int, names: Sequence[str]) -> dict[int, dict[str, int]]:
    """Return, by group, the counters from `begin` on under `names`; amounts of 0 are left out."""
    counters = _between(sums.counters, begin, begin + len(names))
    by_group: dict[int, dict[str, int]] = {}
    for key, amount in zip(counters.keys.tolist(), counters.values.tolist(), strict=True):
        name = names[(key & ((1 << COUNTER_BITS) - 1)) - begin]
        by_group.setdefault(key >> COUNTER_BITS, {})[name] = amount
    return by_group


def _between(counters: Table, begin: int, end: int) -> Table:
    """Return the counters from `begin` to `end`, without `end`, of all groups."""
    counter = counters.keys & ((1 << COUNTER_BITS) - 1)
    inside = (counter >= begin) & (counter < end)
    return Table(counters.keys[inside], counters.values[inside])
