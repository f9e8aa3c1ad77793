"""How far the counts of each partition are complete. Pure."""

from collections.abc import Sequence

from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView


def complete_until_s(views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]) -> list[int]:
    """Return the second up to which the counts of each partition are complete.

    It is the later of its watermark and the last time at which its worker had read all records.
    """
    by_partition = {heartbeat.partition: heartbeat for heartbeat in heartbeats}
    complete_s = []
    for view in views:
        until_s = view.watermark_s
        heartbeat = by_partition.get(view.partition)
        at_ms = None if heartbeat is None else heartbeat.number("at_ms")
        # A halted worker may have written all that it counted, and not have read the records since.
        if (
            heartbeat is not None
            and at_ms is not None
            # All records up to the end of the log were counted when this heartbeat was sent.
            and heartbeat.number("highwater") == view.offset
            and not heartbeat.text("halted")
            # A heartbeat of a wrong clock proves nothing; older versions do not report the clock.
            and heartbeat.text("clock_agrees") != "0"
        ):
            until_s = max(until_s, int(at_ms) // 1_000)
        complete_s.append(until_s)
    return complete_s


def settled_until_s(
    views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat], now_s: int, step_s: int
) -> int:
    """Return the end of the last step that is over and that every partition has counted.

    0 if it is not known: records of a partition wait, and no event has settled its watermark.
    """
    stored = {view.partition for view in views}
    empty_s = [
        _empty_until_s(heartbeat) for heartbeat in heartbeats if heartbeat.partition not in stored
    ]
    # A watermark may be in the future, as senders' clocks may be.
    earliest_s = min([now_s, *complete_until_s(views, heartbeats), *empty_s])
    return earliest_s // step_s * step_s


def final_until_s(views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]) -> int:
    """Return the second up to which a period or day can be closed, by the log alone.

    Every partition is counted up to it, and an event from after it has arrived in one of them. The
    wall clock is not used, as it may be wrong. 0 if it is not known, or a partition is damaged.
    """
    if any(view.damage for view in views) or waiting_partitions(views, heartbeats):
        return 0
    newest_s = max((view.watermark_s for view in views), default=0)
    return min([newest_s, *complete_until_s(views, heartbeats)])


def waiting_partitions(
    views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]
) -> list[int]:
    """Return the partitions without state whose worker knows of records, or is halted there."""
    stored = {view.partition for view in views}
    return [
        heartbeat.partition
        for heartbeat in heartbeats
        if heartbeat.partition not in stored and _waits(heartbeat)
    ]


def _waits(heartbeat: Heartbeat) -> bool:
    # A worker that is halted at the first record may not know of any.
    return bool(heartbeat.number("highwater") or heartbeat.text("halted"))


def _empty_until_s(heartbeat: Heartbeat) -> int:
    """Return the second up to which a partition without state had no record; 0 if unknown."""
    at_ms = heartbeat.number("at_ms")
    return 0 if at_ms is None or _waits(heartbeat) else int(at_ms) // 1_000
