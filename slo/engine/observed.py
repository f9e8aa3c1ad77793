"""What the state of all partitions together says of slices and minutes. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from slo.engine.minute_counts import Pair
from streams.state.coverage import Coverage
from streams.state.slices import LEVELS
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView


def sum_counts(parts: Iterable[Mapping[str, Pair]]) -> dict[str, Pair]:
    """Counts by name of several parts, added up."""
    found: dict[str, Pair] = {}
    for part in parts:
        for name, (total, bad) in part.items():
            had = found.get(name, (0, 0))
            found[name] = (had[0] + total, had[1] + bad)
    return found


def floors_s(views: Sequence[PartitionView]) -> list[int]:
    """By level, the first second from which its slices are still kept in every partition."""
    watermark_s = max(((view.meta.watermark_ms or 0) // 1_000 for view in views), default=0)
    return [max(0, -(-(watermark_s - keep_s) // step_s) * step_s) for step_s, keep_s in LEVELS]


def first_known_minute(views: Sequence[PartitionView], coverage: Coverage) -> int | None:
    """First minute of which everything is known, and not before the first event there ever was:
    silence before a service existed is nobody's uptime."""
    first_ms = [view.meta.since_ms for view in views if view.meta.since_ms is not None]
    if coverage.since_ms is None or not first_ms:
        return None
    return max(-(-coverage.since_ms // 60_000), min(first_ms) // 60_000)


def complete_until_s(views: Sequence[PartitionView], signs: Sequence[Heartbeat]) -> list[int]:
    """By partition, up to when it has told everything: its watermark, or the last time at which
    its worker had nothing left to read."""
    by_partition = {sign.partition: sign for sign in signs}
    found = []
    for view in views:
        until_s = (view.meta.watermark_ms or 0) // 1_000
        sign = by_partition.get(view.partition)
        at_ms = None if sign is None else sign.number("at_ms")
        # A halted worker may have nothing left of what it knows, and no idea of what came since.
        if (
            sign is not None
            and at_ms is not None
            and sign.number("highwater") == view.offset
            and not sign.text("halted")
        ):
            until_s = max(until_s, int(at_ms) // 1_000)
        found.append(until_s)
    return found
