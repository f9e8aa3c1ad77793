"""Which slices and minutes the state of all partitions together covers. Pure."""

from collections.abc import Sequence

from streams.query.completeness import complete_until_s
from streams.state.coverage import Coverage
from streams.state.slices import HORIZON_S, LEVELS
from streams.state.windows import extent
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView


def floors_s(views: Sequence[PartitionView]) -> list[int]:
    """Return by level the first second from which every partition still keeps its slices."""
    watermark_s = max((view.watermark_s for view in views), default=0)
    return [max(0, -(-(watermark_s - keep_s) // step_s) * step_s) for step_s, keep_s in LEVELS]


def alone_until_s(views: Sequence[PartitionView], floors: Sequence[int]) -> list[int]:
    """Return by level the second before which its slices may hold events that finer ones do not.

    Before the floor of the next finer level, slices of that level are gone. The same holds before
    the floor that a watermark once had which an operator has set back, as long as the state keeps
    slices from before that.
    """
    furthest_s = max(
        (
            set_back.furthest_ms // 1_000
            for view in views
            if (set_back := view.meta.set_back) is not None
            and view.watermark_s <= set_back.to_ms // 1_000 + HORIZON_S
        ),
        default=0,
    )
    return [
        0,
        *(
            max(floor_s, furthest_s - keep_s)
            for floor_s, (_, keep_s) in zip(floors[:-1], LEVELS[:-1], strict=True)
        ),
    ]


def first_known_minute(views: Sequence[PartitionView], coverage: Coverage) -> int | None:
    """Return the first minute with complete counts, not before the first event of all: silence
    before a service existed is no uptime."""
    first_ms = [view.meta.since_ms for view in views if view.meta.since_ms is not None]
    if coverage.since_ms is None or not first_ms:
        return None
    return max(-(-coverage.since_ms // 60_000), min(first_ms) // 60_000)


def counted_until_s(
    views: Sequence[PartitionView], heartbeats: Sequence[Heartbeat], now_s: float
) -> int:
    """Return the second up to which requests, or their absence, are counted; at most `now_s`.

    By the slices, as the watermark is behind the newest events if few follow one another closely,
    and by the heartbeats, as time without requests passes too. `now_s` if there is no slice.
    """
    ends_s = [extent(view.index)[1] for view in views if view.index]
    if not ends_s:
        return int(now_s)
    return int(min(now_s, max(*ends_s, min(complete_until_s(views, heartbeats)))))
