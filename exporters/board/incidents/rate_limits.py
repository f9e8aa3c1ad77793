"""Rate-limited requests of the last minute, as an early sign: the rules look at five and sixty.

Pure. The share of all requests that were answered with 429 is compared with that of the last day;
then the customer, or the place, that has most of them is sought:

    last day       0.2 % of all requests
    last minute   33 %   of all requests; 98 % of these are of customer a
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import RATE_LIMITED
from exporters.board.facts import Extent, Incident, Where, covers
from exporters.board.incidents.clusters import EVERYWHERE
from exporters.board.incidents.failures import OUTAGE_WINDOW
from exporters.board.incidents.floods import FLOOD_DAY
from exporters.board.incidents.localisation import SeriesGroups, elsewhere_words
from exporters.board.incidents.notifications import incident_key
from exporters.board.input import BoardInput
from exporters.windows.incremental import CUSTOMER, Sums
from slo.policy.conditions import RECENT_MIN_REQUESTS, USUAL_MIN_REQUESTS
from streams.events.decoder import OUTCOMES
from streams.events.fields import OTHER
from streams.state.slices import PROBES_AT
from streams.state.tables import Ints

_LIMITED_AT = OUTCOMES.index("rate_limited")
_SHARE_MIN = 0.05  # of all requests; a few customers at their limits are every day's traffic
_ODDS_MIN = 3.0  # of a rate-limited request, against the day
_ONE_CUSTOMER = 0.8  # share of the rate-limited requests, for one customer to be named
_NOT_COUNTED = "availability does not count them"


@dataclass(frozen=True, slots=True)
class _Limited:
    """Rate-limited requests, and all requests."""

    limited: int
    requests: int

    @classmethod
    def of(cls, rows: Ints) -> "_Limited":
        """Return the sums of some rows of counts, without probes."""
        return cls(int(rows[:, _LIMITED_AT].sum()), int(rows[:, :PROBES_AT].sum()))

    @property
    def share(self) -> float:
        return self.limited / self.requests


def early_rate_limits(
    reading: BoardInput,
    groups: SeriesGroups,
    alerted: Sequence[Incident],
    flooding: Collection[str],
) -> Iterator[Incident]:
    """Yield the incident of unusually many rate-limited requests, if there are.

    None if an incident tells it already: one of `alerted`, for an alert about rate limits, or of a
    flood by a customer of `flooding`, whose requests are rate-limited.
    """
    minute, day = (reading.windows[window][CUSTOMER] for window in (OUTAGE_WINDOW, FLOOD_DAY))
    now, whole_day = _Limited.of(minute.counts.values), _Limited.of(day.counts.values)
    # The day without its last minute, so that the minute is compared with what was before it.
    before = _Limited(whole_day.limited - now.limited, whole_day.requests - now.requests)
    if now.limited < RECENT_MIN_REQUESTS or now.share < _SHARE_MIN:
        return
    if before.requests < USUAL_MIN_REQUESTS or not _is_unusual(now, before):
        return
    customer = _customer(reading, minute, now)
    if customer is None:
        incident = _of_place(reading, groups, now, before)
    elif customer[0] in flooding:
        return
    else:
        incident = _of_customer(*customer, now, before)
    if not any(_is_about(other, incident.where) for other in alerted):
        yield incident


def _is_about(alerted: Incident, where: Where) -> bool:
    """Return whether an alert about rate limits is about these places; with none, about traffic."""
    if alerted.alert != RATE_LIMITED:
        return False
    if not where:
        return all(dimension != CUSTOMER for dimension, _ in alerted.where)
    return covers(alerted.where, where)


def _is_unusual(now: _Limited, before: _Limited) -> bool:
    # The odds as products, as no request of the day may have been limited.
    return now.limited * (before.requests - before.limited) >= (
        _ODDS_MIN * before.limited * (now.requests - now.limited)
    )


def _customer(reading: BoardInput, minute: Sums, now: _Limited) -> tuple[str, _Limited] | None:
    """Return the token of the customer that has nearly all of them, with its requests."""
    limited = minute.counts.values[:, _LIMITED_AT]
    at = int(np.argmax(limited))
    (name,) = reading.names[CUSTOMER][int(minute.counts.keys[at])]
    # Of the customers beyond the limit of names, none can be told.
    if name == OTHER or int(limited[at]) < _ONE_CUSTOMER * now.limited:
        return None
    return name, _Limited.of(minute.counts.values[at : at + 1])


def _of_customer(name: str, own: _Limited, now: _Limited, before: _Limited) -> Incident:
    share = fmt.percent(now.share)
    words = (
        f"Customer {name} is rate-limited: {fmt.percent(own.share)} of its "
        f"{fmt.counted(own.requests, 'request')} of the {fmt.last_window(OUTAGE_WINDOW)} were "
        f"answered with 429. With those of others {share} of all requests are rate-limited, "
        f"usually {fmt.percent(before.share)}; {_NOT_COUNTED}."
    )
    return _incident(words, now, (CUSTOMER, name), ((CUSTOMER, name),))


def _of_place(
    reading: BoardInput, groups: SeriesGroups, now: _Limited, before: _Limited
) -> Incident:
    counts = reading.windows[OUTAGE_WINDOW]["series"].counts
    limited, requests = np.zeros((2, len(reading.names["series"])), np.int64)
    np.add.at(limited, counts.keys, counts.values[:, _LIMITED_AT])
    np.add.at(requests, counts.keys, counts.values[:, :PROBES_AT].sum(axis=1))
    where = groups.localise("rate limits", groups.splits(limited, requests), _SHARE_MIN)
    of_which, place, elsewhere = now, "", ", in all regions and models alike"
    if where is not None:
        of_which, place = _Limited(where.bad, where.total), f" in {where.words}"
        elsewhere = elsewhere_words(where)
    words = (
        f"Rate limits{place}: {fmt.percent(of_which.share)} of "
        f"{fmt.counted(of_which.requests, 'request')} of the {fmt.last_window(OUTAGE_WINDOW)} were "
        f"answered with 429{elsewhere}. Usually {fmt.percent(before.share)} of all requests are "
        f"rate-limited; {_NOT_COUNTED}."
    )
    keys = (EVERYWHERE,) if where is None else (where.dimension, *where.names)
    return _incident(words, now, keys, groups.where(where))


def _incident(
    words: str, now: _Limited, keys: Sequence[str], where: tuple[tuple[str, str], ...]
) -> Incident:
    return Incident(
        "ticket",
        words,
        RATE_LIMITED,
        RATE_LIMITED,
        incident_key(RATE_LIMITED, *keys),
        extent=Extent(now.share, f"{fmt.percent(now.share)} rate-limited", now.share),
        where=where,
    )
