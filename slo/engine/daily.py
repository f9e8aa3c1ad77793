"""Attainment of an objective day by day, for the history strips on boards.

Pure but for a cache. Days are UTC, numbered since 1970. A closed day is judged again only if its
counts changed, or those of the days beside it: a run of bad minutes may cross midnight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slo.engine.attainment import Stretch, attainment_over
from slo.engine.minute_counts import DAY, MinuteCounts
from slo.engine.minute_status import Attainment
from slo.policy.policy import ErrorBudgetObjective


@dataclass(frozen=True, slots=True)
class DayUptime:
    """One UTC day."""

    day: int
    attainment: Attainment
    is_running: bool


@dataclass(slots=True)
class DayCache:
    """Closed days of one objective, with the version of the counts they were judged from."""

    known: dict[tuple[str, int], tuple[object, Attainment]] = field(default_factory=dict)


def by_day(
    objective: ErrorBudgetObjective,
    minute_counts: MinuteCounts,
    name: str,
    excluded: Sequence[Stretch],
    days: int,
    now_s: int,
    cache: DayCache | None = None,
) -> tuple[DayUptime, ...]:
    """The last `days` days with the running one, oldest first; at most the days that are held."""
    cache = cache or DayCache()
    today = now_s // 60 // DAY
    found = []
    for day in range(max(today + 1 - days, minute_counts.first_day), today + 1):
        begin = day * DAY
        end = min(begin + DAY, now_s // 60 + 1)
        # A run of bad minutes may begin the day before or end the day after.
        made_of = (
            tuple(minute_counts.version(name, one) for one in (day - 1, day, day + 1)),
            tuple(one for one in excluded if one[0] < begin + 2 * DAY and begin - DAY < one[1]),
            minute_counts.is_folded(name, begin),
        )
        known = cache.known.get((name, day))
        # Its end is now, so it is never cached.
        if day == today:
            attained = attainment_over(
                objective, minute_counts, name, excluded, (begin, end), now_s
            )[0]
        elif known is not None and known[0] == made_of:
            attained = known[1]
        else:
            attained = attainment_over(
                objective, minute_counts, name, excluded, (begin, end), now_s
            )[0]
            cache.known[name, day] = made_of, attained
        found.append(DayUptime(day, attained, day == today))
    # The strip moves on each midnight; names and days would else grow without a limit.
    for key in [key for key in cache.known if key[1] < minute_counts.first_day]:
        del cache.known[key]
    return tuple(found)
