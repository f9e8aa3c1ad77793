"""The stretches of event time in which one partition misses records of its log.

Pure. They are in order of time. At most the last one is open: the next events that the watermark
follows end it.
"""

from collections.abc import Sequence

from streams.events.watermark import Times
from streams.state.snapshot import Gap

# Each checkpoint writes the metadata with all gaps, so their number is bounded.
_GAPS_MAX = 64


def open_gap(gaps: Sequence[Gap], watermark_ms: int, records: int) -> list[Gap]:
    """Return the gaps after `records` records were missed at this watermark."""
    # The stream has not moved on since this gap opened, so the new one continues it.
    if gaps and gaps[-1].to_ms is None:
        return [*gaps[:-1], gaps[-1]._replace(records=gaps[-1].records + records)]
    return _limit([*gaps, Gap(watermark_ms, None, records)])


def close_gap(gaps: Sequence[Gap], ended_at_ms: Times, arrived_ms: Times) -> list[Gap]:
    """Return the gaps after a batch: the first event that ends an open gap closes it.

    `arrived_ms`: the watermark after each of these events. An event ahead of it ends no gap: its
    clock may be wrong, or others have not confirmed yet that the log resumed at that time.
    """
    if not gaps or gaps[-1].to_ms is not None:
        return list(gaps)
    follows = (arrived_ms >= gaps[-1].from_ms) & (ended_at_ms <= arrived_ms)
    if not follows.any():
        return list(gaps)
    # argmax finds the first True; the end is exclusive, so its millisecond still counts as missed.
    to_ms = int(arrived_ms[follows.argmax()]) + 1
    return [*gaps[:-1], gaps[-1]._replace(to_ms=to_ms)]


def drop_expired(gaps: Sequence[Gap], horizon_ms: int) -> list[Gap]:
    """Return the gaps that reach beyond the time before which no slice is kept."""
    return [gap for gap in gaps if gap.to_ms is None or gap.to_ms > horizon_ms]


def add_incomplete(
    gaps: Sequence[Gap], stretches: Sequence[tuple[int, int]], watermark_ms: int, is_open: bool
) -> list[Gap]:
    """Return the gaps after the watermark was set back to `watermark_ms`.

    `stretches`: in seconds, without missing records but incomplete. `is_open`: whether times after
    the watermark are incomplete too, until it moves on.
    """
    closed = [gap for gap in gaps if gap.to_ms is not None]
    missed = [gap for gap in gaps if gap.to_ms is None]
    closed += [Gap(from_s * 1_000, to_s * 1_000, 0) for from_s, to_s in stretches]
    if missed or is_open:
        records = sum(gap.records for gap in missed)
        # At most one gap is open, so both causes share it, from the earlier beginning.
        from_ms = min([watermark_ms, *(gap.from_ms for gap in missed)])
        missed = [Gap(from_ms, None, records)]
    return _limit([*sorted(closed, key=lambda gap: gap.from_ms), *missed])


def _limit(gaps: list[Gap]) -> list[Gap]:
    while len(gaps) > _GAPS_MAX:
        first, second, *rest = gaps  # the two oldest become one that covers both
        gaps = [Gap(first.from_ms, second.to_ms, first.records + second.records), *rest]
    return gaps
