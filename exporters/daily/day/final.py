"""Decide when a day is final, and pack the data that is stored of it.

Pure. A day is final `daily.seal_after_h` after its end, once every partition has read all events
up to that time. The end of a log proves little while the producers are cut off or behind, and a
clock may be wrong, so an event from after that time must have arrived as well.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from exporters.daily.day import text
from exporters.daily.day.calendar import HOUR_S, CalendarDay
from exporters.daily.day.counts import Counts, Groups, samples
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    CacheMargin,
    Correction,
    Day,
    GrowthRow,
    MetricCause,
    Risk,
    Segment,
    Values,
)
from slo.health_limits import MANY_WAITING
from streams.query.completeness import complete_until_s, waiting_partitions
from streams.state.registry import OTHER
from streams.state.tables import Table
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView

VERSION = 1
# Names of each dimension that are stored; the rest is added up.
NAMES_MAX = 50


class _Stored(msgspec.Struct, frozen=True):
    """A versioned value of the store."""

    version: int

    def pack(self) -> bytes:
        """Return it as bytes for the store."""
        return msgspec.json.encode(self)


class _PackedCounts(msgspec.Struct, array_like=True, frozen=True):
    requests: int
    eligible: int
    successes: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft: bytes  # histograms: LEB128 tables, deflated
    tpot: bytes
    cached_of_tokens: int | None = None  # None: of a version that read unknown cached tokens as 0
    # None: of a version that rejected successes without tokens or TTFT, so that all were known.
    answered: int | None = None
    tokens_known: int | None = None
    streamed: int | None = None


class FinalDay(_Stored, frozen=True):
    """A final day as the board shows it; customers by token, as in the state."""

    zone: str
    day: Day
    targets: BoardTargets  # in force when it became final
    causes: tuple[MetricCause, ...]
    segments: tuple[Segment, ...]
    risks: tuple[Risk, ...] | None = None  # None: it became final too late to know their status
    cache: CacheMargin | None = None  # None: no price book, or stored by an earlier version
    growth: tuple[GrowthRow, ...] | None = None  # None: too late, or stored by an earlier version
    # Of all traffic, for weeks and months: kept longer than FinalCounts. None: an earlier version.
    fleet: _PackedCounts | None = None
    # By segment as the directory was then, for weeks and months: the counts by customer expire
    # earlier and have the largest customers only. None: an earlier version.
    by_segment: dict[str, _PackedCounts] | None = None

    @property
    def segment_counts(self) -> dict[str, Counts] | None:
        """Return the counts of each segment; None if an earlier version stored the day."""
        if self.by_segment is None:
            return None
        return {name: _unpack(packed) for name, packed in self.by_segment.items()}

    @property
    def counts(self) -> Counts | None:
        """Return the counts of all traffic; None if an earlier version stored the day."""
        return None if self.fleet is None else _unpack(self.fleet)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the output of `pack`; raises ValueError for data of a newer version."""
        _check_version(data)
        return msgspec.json.decode(data, type=cls)


class FinalCounts(_Stored, frozen=True):
    """The counts behind a final day, with which later days are compared."""

    fleet: _PackedCounts
    groups: dict[str, dict[str, _PackedCounts]]

    @classmethod
    def of(cls, fleet: Counts, groups: Groups) -> Self:
        """Return the counts of a day; of each dimension the NAMES_MAX largest names."""
        return cls(
            VERSION,
            pack_counts(fleet),
            {
                dimension: {name: pack_counts(counts) for name, counts in _largest(names).items()}
                for dimension, names in groups.items()
            },
        )

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Counts, dict[str, dict[str, Counts]]]:
        """Read the counts; raises ValueError for data of a newer version."""
        _check_version(data)
        stored = msgspec.json.decode(data, type=cls)
        return _unpack(stored.fleet), {
            dimension: {name: _unpack(packed) for name, packed in names.items()}
            for dimension, names in stored.groups.items()
        }


class _Version(msgspec.Struct):
    version: int


def _check_version(data: bytes) -> None:
    version = msgspec.json.decode(data, type=_Version).version
    if version > VERSION:
        raise ValueError(
            f"a final day has version {version}, this program reads {VERSION}: upgrade the program"
        )


def pack_counts(counts: Counts) -> _PackedCounts:
    """Return counts in their stored form."""
    return _PackedCounts(
        requests=counts.requests,
        eligible=counts.eligible,
        successes=counts.successes,
        input_tokens=counts.input_tokens,
        cached_tokens=counts.cached_tokens,
        output_tokens=counts.output_tokens,
        ttft=zlib.compress(counts.ttft.pack()),
        tpot=zlib.compress(counts.tpot.pack()),
        cached_of_tokens=counts.cached_of_tokens,
        answered=counts.answered,
        tokens_known=counts.tokens_known,
        streamed=counts.streamed,
    )


def _unpack(packed: _PackedCounts) -> Counts:
    ttft = Table.unpack(zlib.decompress(packed.ttft))
    return Counts(
        requests=packed.requests,
        eligible=packed.eligible,
        successes=packed.successes,
        input_tokens=packed.input_tokens,
        cached_tokens=packed.cached_tokens,
        cached_of_tokens=(
            packed.input_tokens if packed.cached_of_tokens is None else packed.cached_of_tokens
        ),
        output_tokens=packed.output_tokens,
        answered=packed.successes if packed.answered is None else packed.answered,
        tokens_known=packed.successes if packed.tokens_known is None else packed.tokens_known,
        streamed=samples(ttft) if packed.streamed is None else packed.streamed,
        ttft=ttft,
        tpot=Table.unpack(zlib.decompress(packed.tpot)),
    )


def _largest(names: Mapping[str, Counts]) -> Mapping[str, Counts]:
    if len(names) <= NAMES_MAX:
        return names
    order = sorted(names, key=lambda name: (-names[name].eligible, name))
    large = {name: names[name] for name in order[: NAMES_MAX - 1] if name != OTHER}
    # OTHER of the state itself, if present, is part of the rest.
    rest = Counts.sum(counts for name, counts in names.items() if name not in large)
    return {**large, OTHER: rest}


def partitions_behind(
    until_s: float, views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]
) -> list[tuple[int, int]]:
    """Return the partitions that are not read up to an instant: (partition, read up to)."""
    reached = zip(views, complete_until_s(views, heartbeats), strict=True)
    behind = [(view.partition, at_s) for view, at_s in reached if at_s < until_s]
    return behind + [(partition, 0) for partition in waiting_partitions(views, heartbeats)]


def partitions_waiting(
    until_s: float, views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]
) -> list[tuple[int, int]]:
    """Return those of `partitions_behind` of which many records are known to wait in Kafka."""
    # A few wait at any time.
    ends = {heartbeat.partition: heartbeat.number("highwater") or 0 for heartbeat in heartbeats}
    waiting = {
        view.partition for view in views if ends.get(view.partition, 0) - view.offset > MANY_WAITING
    }
    behind = partitions_behind(until_s, views, heartbeats)
    return [(partition, at_s) for partition, at_s in behind if partition in waiting]


def is_silent(day: CalendarDay, seal_at_s: float, views: Sequence[PartitionView]) -> bool:
    """Return True if a day waits for an event from after `seal_at_s`.

    It does not wait if it could not be counted any more after such an event, as its midnight is
    not a full hour UTC.
    """
    newest_s = max((view.watermark_s for view in views), default=0)
    return newest_s < seal_at_s and not (day.from_s % HOUR_S or day.to_s % HOUR_S)


def corrections(final: Day, now: Values) -> tuple[Correction, ...]:
    """Return the metrics of a final day that would differ today."""
    return tuple(
        text.correction(metric, final.values, now)
        for metric in METRICS
        if final.values.of(metric).value != now.of(metric).value
    )
