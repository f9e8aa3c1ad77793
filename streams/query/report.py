"""The report: exact measures over a range of time, in steps, by group, from the stored slices.

`build` is pure; `make_report` reads the store. docs/report.schema.json describes the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as aioredis

from streams.errors import RequestError
from streams.state.coverage import Coverage
from streams.state.measures import SERIES_DIMENSIONS, GroupKey, by_cube, by_series, measures, whole
from streams.state.registry import CubeKey, SeriesKey
from streams.state.slices import HORIZON_S, LEVELS, Aggregate, SliceId, refused_tally
from streams.state.windows import cover, kept_step_s
from streams.store.reader import PartitionView, SliceCache, StateReader

STEPS_MAX = 20_000
SLICES_PER_ROUND = 200  # whole slices stay in memory until the report is built
DEFAULT_STEP_S = 300


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; None lets the stored data decide.

    Seconds since the epoch. `by`: some of model, region, channel, service_tier; or customer, alone
    or with model.
    """

    from_s: int | None = None
    to_s: int | None = None
    step_s: int = DEFAULT_STEP_S
    by: tuple[str, ...] = ()
    as_of_s: int | None = None

    def __post_init__(self) -> None:
        if self.step_s % LEVELS[0].step_s or not LEVELS[0].step_s <= self.step_s <= 86_400:
            raise RequestError(f"--step: got {self.step_s} s; give 10s up to 1d in tens of seconds")
        if 86_400 % self.step_s:
            raise RequestError(f"--step: {self.step_s} s does not divide a day; try 5m, 10m or 1h")
        known = {*SERIES_DIMENSIONS, "customer"}
        for dimension in self.by:
            if dimension not in known:
                raise RequestError(
                    f"--by: got {dimension!r}; choose from {', '.join(sorted(known))}"
                )
        if "customer" in self.by and not set(self.by) <= {"customer", "model"}:
            raise RequestError("--by: customers are counted by model only: use customer,model")


@dataclass(frozen=True, slots=True)
class Range:
    """The range a question comes to, on boundaries that the store can answer exactly."""

    from_s: int
    to_s: int
    step_s: int
    as_of_s: int


def settle(question: Question, views: Sequence[PartitionView]) -> Range:
    """Fill in what the question leaves open and widen its step to what is still kept."""
    watermark_s = max(((view.meta.watermark_ms or 0) // 1_000 for view in views), default=0)
    as_of_s = watermark_s if question.as_of_s is None else question.as_of_s
    starts = [of.start_s for view in views for of in view.index]
    to_s = as_of_s + 1 if question.to_s is None else min(question.to_s, as_of_s + 1)
    from_s = question.from_s
    if from_s is None:
        from_s = min(starts, default=to_s - 1)
    from_s = max(from_s, watermark_s - HORIZON_S)
    if from_s >= to_s:
        raise RequestError(
            f"nothing to report between {_rfc3339(from_s)} and {_rfc3339(to_s)}: --from must lie "
            "before --to, and both before --as-of"
        )
    step_s = question.step_s
    while True:
        # The step kept at the beginning must divide the step of the answer.
        kept = kept_step_s(from_s // step_s * step_s, watermark_s)
        if step_s % kept == 0:
            break
        step_s = kept if kept > step_s else kept * -(-step_s // kept)
        while 86_400 % step_s:
            step_s += kept
    return Range(from_s // step_s * step_s, -(-to_s // step_s) * step_s, step_s, as_of_s)


def build(
    asked: Question,
    found: Range,
    read: Sequence[tuple[PartitionView, Mapping[SliceId, Aggregate]]],
    series: Sequence[SeriesKey],
    cubes: Sequence[CubeKey],
) -> dict[str, Any]:
    """Put the answer together from the slices of all partitions."""
    starts = range(found.from_s, found.to_s, found.step_s)
    steps = [
        Aggregate.merged(
            [
                slices[of]
                for view, slices in read
                for of in cover(
                    view.index, view.meta.merged_until_s, start_s, start_s + found.step_s
                )
            ]
        )
        for start_s in starts
    ]
    # Records refused before anything was accepted have no place in time: only the total has them.
    unplaced = Counter[str]()
    for view, _ in read:
        unplaced.update(view.meta.unplaced)
    total = Aggregate.merged([*steps, refused_tally(unplaced)])
    coverage = Coverage.of(view.meta for view, _ in read)

    def whole_of(aggregate: Aggregate, from_s: int, to_s: int) -> dict[str, Any]:
        return {**measures(whole(aggregate)), "complete": coverage.complete(from_s, to_s)}

    report: dict[str, Any] = {
        "from": _rfc3339(found.from_s),
        "to": _rfc3339(found.to_s),
        "step_s": found.step_s,
        "as_of": _rfc3339(found.as_of_s),
        "gaps": [
            {
                "from": rfc3339_ms(gap.from_ms),
                "to": None if gap.to_ms is None else rfc3339_ms(gap.to_ms),
                "records": gap.records,
            }
            for gap in coverage.gaps
        ],
        "lost_records": coverage.lost_records,
        "total": whole_of(total, found.from_s, found.to_s),
        "steps": [
            {
                "start": _rfc3339(start_s),
                "measures": whole_of(step, start_s, start_s + found.step_s),
            }
            for start_s, step in zip(starts, steps, strict=True)
        ],
    }
    if asked.by:

        def grouped(aggregate: Aggregate) -> dict[GroupKey, Aggregate]:
            if "customer" in asked.by:
                return by_cube(aggregate, cubes, asked.by)
            return by_series(aggregate, series, asked.by)

        groups: dict[GroupKey, dict[str, Any]] = {
            key: {
                "key": dict(zip(asked.by, key, strict=True)),
                "total": _of(aggregate),
                "steps": [],
            }
            for key, aggregate in sorted(grouped(total).items())
        }
        for start_s, step in zip(starts, steps, strict=True):
            for key, aggregate in grouped(step).items():
                groups[key]["steps"].append(
                    {"start": _rfc3339(start_s), "measures": _of(aggregate)}
                )
        report["groups"] = list(groups.values())
    return report


def _of(aggregate: Aggregate) -> dict[str, Any]:
    """Measures of one group. Refused records belong to none: what names they had, we refused; and
    the names of a duplicate were never looked at."""
    found = measures(aggregate)
    del found["refused"], found["duplicates"]
    return found


async def make_report(
    client: "aioredis.Redis", group: str, topic: str, asked: Question
) -> dict[str, Any]:
    """Answer a question from the store. Raises StoreError or RequestError."""
    reader = StateReader(client, group, topic)
    snapshot = await reader.snapshot()
    if not snapshot.views:
        raise RequestError(
            f"no state of group {group!r} and topic {topic!r}: start a worker, or set kafka.group "
            "and kafka.topic to those it runs with"
        )
    found = settle(asked, snapshot.views)
    if (found.to_s - found.from_s) // found.step_s > STEPS_MAX:
        raise RequestError(
            f"--step: {found.step_s} s makes more than {STEPS_MAX} steps; give a longer one"
        )

    def needed(view: PartitionView) -> list[SliceId]:
        return [
            of
            for start_s in range(found.from_s, found.to_s, found.step_s)
            for of in cover(view.index, view.meta.merged_until_s, start_s, start_s + found.step_s)
        ]

    slices = SliceCache(needed)
    await snapshot.load([slices], SLICES_PER_ROUND)
    read = [(view, slices.aggregates(view)) for view in snapshot.views]
    return build(asked, found, read, snapshot.series, snapshot.cubes)


def _rfc3339(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_ms(at_ms: int) -> str:
    """An instant as people and programs read it, to the millisecond."""
    seconds, ms = divmod(at_ms, 1_000)
    return f"{_rfc3339(seconds)[:-1]}.{ms:03}Z"
