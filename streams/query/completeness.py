"""How far the counts of each partition are complete. Pure."""

from collections.abc import Sequence

from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView

_TOGETHER_S = 60  # watermarks of partitions that are all read differ by less


def complete_until_s(views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat]) -> list[int]:
    """Return by partition the second up to which its counts are complete: its watermark, or the
    last time at which its worker had read all records."""
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
        ):
            until_s = max(until_s, int(at_ms) // 1_000)
        complete_s.append(until_s)
    return complete_s


def settled_until_s(
    views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat], watermark_s: int, step_s: int
) -> int:
    """Return the end of the last step that every partition has counted; 0 if it is not known."""
    halted = {heartbeat.partition for heartbeat in heartbeats if heartbeat.text("halted")}
    # A few events of senders' clocks settle no time, which says nothing of a partition that is
    # being read.
    known_s = [
        until_s
        for view, until_s in zip(views, complete_until_s(views, heartbeats), strict=True)
        if until_s or view.partition in halted
    ]
    earliest_s = min(known_s, default=0)
    # Workers write their checkpoints one after another: the running step is as complete as it can
    # be if all are there.
    is_running = (
        not halted
        and earliest_s > 0
        and earliest_s >= watermark_s - _TOGETHER_S
        and earliest_s // step_s >= watermark_s // step_s
    )
    return (earliest_s // step_s + is_running) * step_s
