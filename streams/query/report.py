"""The report: exact measures over a range of time, in steps and by group, from the stored slices.

`query` reads the store; the rest is pure. docs/report.schema.json describes the result of `build`.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import redis.asyncio as aioredis

from streams.config.latency import Latency
from streams.errors import RequestError, Unavailable
from streams.query.completeness import settled_until_s
from streams.query.instants import rfc3339, rfc3339_ms
from streams.query.steps import DAY_S, exact_step_s, step_starts
from streams.state.coverage import Coverage
from streams.state.measures import (
    SERIES_DIMENSIONS,
    GroupKey,
    by_customer_model,
    by_series,
    measures,
    whole,
    without_apart_tiers,
)
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import HORIZON_S, LEVELS, Aggregate, SliceId, rejection_counts
from streams.state.windows import cover
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView, StateReader
from streams.store.slice_cache import SliceCache

STEPS_MAX = 20_000
SLICES_PER_ROUND = 200  # whole slices stay in memory until the report is built
DEFAULT_STEP_S = 300
AHEAD_S = 86_400
_USUAL_APART_TIERS = Latency().apart_tiers


@dataclass(frozen=True, slots=True)
class Question:
    """The range, step and groups of a report. None: chosen from the stored data.

    Seconds since the epoch. `by`: some of model, region, channel, service_tier; or customer, alone
    or with model. Raises RequestError.
    """

    from_s: int | None = None
    to_s: int | None = None
    step_s: int = DEFAULT_STEP_S
    by: tuple[str, ...] = ()
    as_of_s: int | None = None
    # Their latencies are in no group of several tiers.
    apart_tiers: frozenset[str] = _USUAL_APART_TIERS

    def __post_init__(self) -> None:
        shortest_s = LEVELS[0].step_s
        if self.step_s % shortest_s or not shortest_s <= self.step_s <= DAY_S:
            raise RequestError(f"--step: got {self.step_s} s; give 10s up to 1d in tens of seconds")
        if DAY_S % self.step_s:
            raise RequestError(f"--step: {self.step_s} s does not divide a day; try 5m, 10m or 1h")
        known = {*SERIES_DIMENSIONS, "customer"}
        for dimension in self.by:
            if dimension not in known:
                raise RequestError(
                    f"--by: got {dimension!r}; choose from {', '.join(sorted(known))}"
                )
        # Counts by customer are kept apart from the series, by customer and model only.
        if "customer" in self.by and not set(self.by) <= {"customer", "model"}:
            raise RequestError("--by: customers are counted by model only: use customer,model")


@dataclass(frozen=True, slots=True)
class Range:
    """The range of an answer, on boundaries for which the store has exact slices.

    `settled_s`: end of its steps that are over and that every partition has counted; the later ones
    may still grow.
    """

    from_s: int
    to_s: int
    step_s: int
    as_of_s: int
    settled_s: int

    @property
    def starts(self) -> range:
        """The start of each step."""
        return range(self.from_s, self.to_s, self.step_s)

    def slices(self, view: PartitionView) -> dict[int, list[SliceId]]:
        """Return the slices of a partition that make up each step, by its start; some have none."""
        merged_s = view.meta.merged_until_s
        by_start = {
            start_s: list(cover(view.index, merged_s, start_s, start_s + self.step_s))
            for start_s in self.starts
            if start_s < merged_s[1]
        }
        # Later steps have unmerged slices only. A wrong clock may put some years ahead, and `cover`
        # would look at each 10 s until then.
        for slice_ in sorted(view.index):
            start_s = slice_.start_s // self.step_s * self.step_s
            if not slice_.level and start_s in self.starts and start_s >= merged_s[1]:
                by_start.setdefault(start_s, []).append(slice_)
        return by_start


@dataclass(frozen=True, slots=True)
class LaterRequests:
    """The requests that are stored after the end of a report, by clocks that are far ahead."""

    requests: int
    until_s: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """The aggregates that answer a question: one for each step, and their total."""

    by: tuple[str, ...]
    range: Range
    steps: Mapping[int, Aggregate]  # by start
    total: Aggregate
    coverage: Coverage
    series: Sequence[SeriesKey]
    customers: Sequence[CustomerKey]
    apart_tiers: frozenset[str]
    later: LaterRequests | None = None
    damage: Sequence[str] = ()  # one line for each stored field that could not be read
    tokens: Mapping[str, str] = field(default_factory=dict)  # as of the snapshot

    def groups(self, aggregate: Aggregate) -> dict[GroupKey, Aggregate]:
        """Split an aggregate by the dimensions of the question."""
        if "customer" in self.by:
            return by_customer_model(aggregate, self.customers, self.by)
        # Groups by tier show the latencies of each tier, so all of them stay.
        if "service_tier" not in self.by:
            aggregate = without_apart_tiers(aggregate, self.series, self.apart_tiers)
        return by_series(aggregate, self.series, self.by)

    def whole(self, aggregate: Aggregate) -> Aggregate:
        """Return an aggregate as one group."""
        return whole(without_apart_tiers(aggregate, self.series, self.apart_tiers))


def _watermark_s(views: Sequence[PartitionView]) -> int:
    """Return how far the topic has come, in seconds since 1970.

    A partition with few events of senders' timestamps may have a wild watermark. It decides only if
    there is no other partition.
    """
    settled_ms = [
        settled for view in views if (settled := view.meta.watermark().settled_ms) is not None
    ]
    provisional_ms = (view.meta.watermark_ms or 0 for view in views)
    return max(settled_ms or provisional_ms, default=0) // 1_000


def newest_s(views: Sequence[PartitionView], watermark_s: int, now_s: int) -> int:
    """Return the last second that was counted, at most that of now or AHEAD_S after the watermark.

    The watermark is behind the newest events if senders stamp them (CreateTime) and few follow one
    another closely. An event that is far ahead has a wrong clock.
    """
    limit_s = max(now_s, watermark_s + AHEAD_S)
    ends_s = (
        slice_.end_s - 1
        for view in views
        for slice_ in view.index
        if slice_.level == 0 and slice_.start_s <= limit_s
    )
    newest = max(ends_s, default=watermark_s)
    # The slice of the watermark reaches further than the watermark itself.
    return newest if newest - LEVELS[0].step_s >= watermark_s else watermark_s


def later_slices(question: Question, range_: Range, view: PartitionView) -> list[SliceId]:
    """Return the slices of a partition after the end of a range that its question leaves open."""
    if question.to_s is not None or question.as_of_s is not None:
        return []
    # Slices after the watermark are not merged.
    return [slice_ for slice_ in view.index if not slice_.level and slice_.start_s >= range_.to_s]


def choose_range(
    question: Question,
    views: Sequence[PartitionView],
    now_s: int,
    heartbeats: Sequence[Heartbeat] = (),
) -> Range:
    """Fill in the open parts of a question, and widen its step to the slices still stored.

    `now_s`: seconds since 1970. `heartbeats`: the last ones of workers. Raises RequestError if the
    range is empty or has too many steps.
    """
    watermark_s = _watermark_s(views)
    as_of_s = question.as_of_s
    if as_of_s is None:
        as_of_s = newest_s(views, watermark_s, now_s)
        # Behind the last slice there are no steps to show.
        ends_s = (slice_.end_s for view in views for slice_ in view.index)
        last_s = max(as_of_s + 1, max(ends_s, default=0))
    else:
        last_s = as_of_s + 1
    # The end is exclusive, and the second of the watermark belongs to the answer.
    to_s = as_of_s + 1 if question.to_s is None else min(question.to_s, last_s)
    from_s = question.from_s
    # The oldest stored slice is the default start.
    if from_s is None:
        from_s = min((slice_.start_s for view in views for slice_ in view.index), default=to_s - 1)
    # Older slices have expired.
    from_s = max(from_s, watermark_s - HORIZON_S)
    if from_s >= to_s:
        if question.to_s is None and as_of_s == newest_s(views, watermark_s, now_s):
            raise RequestError(
                f"no data to report from {rfc3339(from_s)} on: the newest event that is counted is "
                f"of {rfc3339(as_of_s)}"
            )
        raise RequestError(
            f"no data to report between {rfc3339(from_s)} and {rfc3339(to_s)}: --from must lie "
            "before --to, and both before --as-of"
        )
    step_s = exact_step_s(question.step_s, from_s, watermark_s)
    # Years may lie between the watermark and a later event: they make the step longer.
    if to_s > watermark_s + 1:
        while step_s < DAY_S and len(step_starts(from_s, to_s, step_s)) > STEPS_MAX:
            step_s = exact_step_s(step_s + LEVELS[0].step_s, from_s, watermark_s)
    starts = step_starts(from_s, to_s, step_s)
    if len(starts) > STEPS_MAX:
        fix = "a longer one" if step_s < DAY_S else "a later --from or an earlier --to"
        raise RequestError(f"--step: {step_s} s makes more than {STEPS_MAX} steps; give {fix}")
    settled_s = settled_until_s(views, heartbeats, now_s, step_s)
    from_s, to_s = starts.start, starts.stop
    return Range(from_s, to_s, step_s, as_of_s, min(max(from_s, settled_s), to_s))


def combine(
    question: Question,
    range_: Range,
    partitions: Sequence[tuple[PartitionView, Mapping[SliceId, Aggregate]]],
    series: Sequence[SeriesKey],
    customers: Sequence[CustomerKey],
) -> ReportData:
    """Merge the slices of all partitions, and count the requests after the range."""
    by_view = [(range_.slices(view), slices) for view, slices in partitions]
    steps = {
        start_s: Aggregate.merged(
            [
                slices[slice_id]
                for by_start, slices in by_view
                for slice_id in by_start.get(start_s, ())
            ]
        )
        for start_s in range_.starts
    }
    # Records rejected before any was accepted have no time: only the total includes them.
    unplaced = Counter[str]()
    for view, _ in partitions:
        unplaced.update(view.meta.unplaced)
    total = Aggregate.merged([*steps.values(), rejection_counts(unplaced)])
    coverage = Coverage.of(view.meta for view, _ in partitions)
    later = [
        (slice_id.end_s, slices[slice_id])
        for view, slices in partitions
        for slice_id in later_slices(question, range_, view)
    ]
    requests = measures(whole(Aggregate.merged([slice_ for _, slice_ in later])))["requests"]
    return ReportData(
        question.by,
        range_,
        steps,
        total,
        coverage,
        series,
        customers,
        question.apart_tiers,
        LaterRequests(requests, max(end_s for end_s, _ in later)) if requests else None,
        [f"partition {view.partition}: {one}" for view, _ in partitions for one in view.damage],
    )


async def query(client: "aioredis.Redis", group: str, topic: str, question: Question) -> ReportData:
    """Answer a question from the store. Raises StoreError or RequestError."""
    snapshot = await StateReader(client, group, topic).snapshot()
    if not snapshot.views:
        raise RequestError(
            f"no state of group {group!r} and topic {topic!r}: start a worker, or set kafka.group "
            "and kafka.topic to those of its settings"
        )
    if not any(view.is_readable for view in snapshot.views):
        damage = (f"partition {view.partition}: {view.damage[0]}" for view in snapshot.views)
        raise Unavailable(f"{', '.join(damage)}: use `tokenpulse state check`")
    range_ = choose_range(question, snapshot.views, int(time.time()), snapshot.heartbeats)
    cache = SliceCache(
        lambda view: [
            *chain.from_iterable(range_.slices(view).values()),
            *later_slices(question, range_, view),
        ]
    )
    await snapshot.load([cache], SLICES_PER_ROUND)
    partitions = [(view, cache.aggregates(view)) for view in snapshot.views]
    data = combine(question, range_, partitions, snapshot.series, snapshot.customers)
    return replace(data, tokens=snapshot.tokens)


async def make_report(
    client: "aioredis.Redis", group: str, topic: str, question: Question
) -> dict[str, Any]:
    """Return the report that answers a question. Raises StoreError or RequestError."""
    return build(await query(client, group, topic, question))


def build(data: ReportData) -> dict[str, Any]:
    """Return the report: the measures of the total, of each step and of each group."""
    range_, coverage = data.range, data.coverage

    def measures_of(aggregate: Aggregate, from_s: int, to_s: int) -> dict[str, Any]:
        # A step after the watermark may still grow, even if no record of it is lost.
        complete = coverage.complete(from_s, to_s) and to_s <= range_.settled_s
        return {**measures(data.whole(aggregate)), "complete": complete}

    report: dict[str, Any] = {
        "from": rfc3339(range_.from_s),
        "to": rfc3339(range_.to_s),
        "step_s": range_.step_s,
        "as_of": rfc3339(range_.as_of_s),
        "settled_until": rfc3339(range_.settled_s),
        "later": None
        if data.later is None
        else {
            "requests": data.later.requests,
            "until": rfc3339(data.later.until_s),
        },
        "gaps": [
            {
                "from": rfc3339_ms(gap.from_ms),
                "to": None if gap.to_ms is None else rfc3339_ms(gap.to_ms),
                "records": gap.records,
            }
            for gap in coverage.gaps
        ],
        "lost_records": coverage.lost_records,
        "total": measures_of(data.total, range_.from_s, range_.to_s),
        "steps": [
            {
                "start": rfc3339(start_s),
                "measures": measures_of(step, start_s, start_s + range_.step_s),
            }
            for start_s, step in data.steps.items()
        ],
    }
    if data.by:
        report["groups"] = _group_reports(data)
    return report


def _group_reports(data: ReportData) -> list[dict[str, Any]]:
    groups: dict[GroupKey, dict[str, Any]] = {
        key: {
            "key": dict(zip(data.by, key, strict=True)),
            "total": _group_measures(aggregate),
            "steps": [],
        }
        for key, aggregate in sorted(data.groups(data.total).items())
    }
    for start_s, step in data.steps.items():
        for key, aggregate in data.groups(step).items():
            groups[key]["steps"].append(
                {"start": rfc3339(start_s), "measures": _group_measures(aggregate)}
            )
    return list(groups.values())


def _group_measures(aggregate: Aggregate) -> dict[str, Any]:
    # Rejected records and duplicates belong to no group: their names were not accepted.
    return {
        name: value
        for name, value in measures(aggregate).items()
        if name not in ("refused", "duplicates", "field_faults")
    }
