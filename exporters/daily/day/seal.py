"""Decide when a day is final, and pack what is stored of it.

Pure. A day is final `daily.seal_after_h` after its end, once every partition has read all events
up to that time. The end of a log proves little while the producers are cut off or behind, so an
event from after that time must have arrived as well. If none arrives, the silence is accepted as
late as a period of an SLA is closed.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from exporters.daily.day import text as words
from exporters.daily.day.calendar import HOUR_S, CalendarDay
from exporters.daily.day.counts import Counts, Groups
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    Cause,
    Correction,
    Day,
    Risk,
    Segment,
    Values,
)
from exporters.daily.day.trends import value_of
from slo.engine.maintenance import SEAL_AFTER_S
from slo.engine.observed import seen_until_s
from streams.state.registry import OTHER
from streams.state.tables import Table
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView

VERSION = 1
# Names a dimension that are written down; the others are added up.
NAMES_MAX = 50


class Record(msgspec.Struct, frozen=True):
    """A sealed day as the board shows it; customers by token, as the state has them."""

    version: int
    zone: str
    day: Day
    targets: BoardTargets  # in force when it was sealed
    causes: tuple[Cause, ...]
    segments: tuple[Segment, ...]
    risks: tuple[Risk, ...] | None = None  # None: it was sealed too late to say how they stood

    def pack(self) -> bytes:
        """As bytes for the store."""
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the output of `pack`; raises ValueError for data of a newer version."""
        _check_version(data)
        return msgspec.json.decode(data, type=cls)


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    requests: int
    eligible: int
    successes: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft: bytes  # histograms: LEB128 tables, deflated
    tpot: bytes


class Detail(msgspec.Struct, frozen=True):
    """The counts behind a final day."""

    version: int
    fleet: _Packed
    groups: dict[str, dict[str, _Packed]]

    @classmethod
    def of(cls, fleet: Counts, groups: Groups) -> Self:
        """From the counts of a day."""
        return cls(
            VERSION,
            _pack(fleet),
            {
                dimension: {name: _pack(counts) for name, counts in _largest(names).items()}
                for dimension, names in groups.items()
            },
        )

    def pack(self) -> bytes:
        """As bytes for the store."""
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Counts, dict[str, dict[str, Counts]]]:
        """Read the counts; raises ValueError for data of a newer version."""
        _check_version(data)
        found = msgspec.json.decode(data, type=cls)
        return _unpack(found.fleet), {
            dimension: {name: _unpack(one) for name, one in names.items()}
            for dimension, names in found.groups.items()
        }


class _Version(msgspec.Struct):
    version: int


def _check_version(data: bytes) -> None:
    version = msgspec.json.decode(data, type=_Version).version
    if version > VERSION:
        raise ValueError(
            f"a sealed day has version {version}, this program knows {VERSION}: upgrade the program"
        )


def _pack(counts: Counts) -> _Packed:
    return _Packed(
        requests=counts.requests,
        eligible=counts.eligible,
        successes=counts.successes,
        input_tokens=counts.input_tokens,
        cached_tokens=counts.cached_tokens,
        output_tokens=counts.output_tokens,
        ttft=zlib.compress(counts.ttft.pack()),
        tpot=zlib.compress(counts.tpot.pack()),
    )


def _unpack(packed: _Packed) -> Counts:
    return Counts(
        requests=packed.requests,
        eligible=packed.eligible,
        successes=packed.successes,
        input_tokens=packed.input_tokens,
        cached_tokens=packed.cached_tokens,
        output_tokens=packed.output_tokens,
        ttft=Table.unpack(zlib.decompress(packed.ttft)),
        tpot=Table.unpack(zlib.decompress(packed.tpot)),
    )


def _largest(names: Mapping[str, Counts]) -> Mapping[str, Counts]:
    if len(names) <= NAMES_MAX:
        return names
    order = sorted(names, key=lambda name: (-names[name].eligible, name))
    kept = {name: names[name] for name in order[: NAMES_MAX - 1] if name != OTHER}
    others = Counts.merged(one for name, one in names.items() if name not in kept)
    return {**kept, OTHER: others}


def behind(
    until_s: float, views: Sequence[PartitionView], signs: Sequence[Heartbeat]
) -> list[tuple[int, int]]:
    """Return the partitions that have not read up to a moment: (partition, read up to)."""
    found = [
        (view.partition, reached_s)
        for view, reached_s in zip(views, seen_until_s(views, signs), strict=True)
        if reached_s < until_s
    ]
    counted = {view.partition for view in views}
    # Claimed, and its log has records, but nothing of them is counted yet.
    found += [
        (sign.partition, 0)
        for sign in signs
        if sign.partition not in counted and sign.number("highwater")
    ]
    return found


def silent_until_s(
    of: CalendarDay, seal_at_s: float, views: Sequence[PartitionView]
) -> float | None:
    """Return how long a day waits for an event from after the time for late ones.

    None if it does not wait: one has arrived, or the day could not be counted any more by then.
    """
    heard_s = max(((view.meta.watermark_ms or 0) / 1_000 for view in views), default=0.0)
    if heard_s >= seal_at_s or of.from_s % HOUR_S or of.to_s % HOUR_S:
        return None
    return max(seal_at_s, of.to_s + SEAL_AFTER_S)


def corrections(sealed: Day, now: Values) -> tuple[Correction, ...]:
    """Return the metrics of a final day that would differ today."""
    return tuple(
        words.correction(metric, sealed.values, now)
        for metric in METRICS
        if value_of(sealed.values, metric) != value_of(now, metric)
    )
