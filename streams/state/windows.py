"""Which slices make up a stretch of time, at the coarsest resolution that is exact.

Pure. A window [from_s, to_s) is a sum of slices that neither overlap nor leave a gap. Long windows
are made of a few coarse slices and finer ones at the front, where the coarse ones are not there
yet:

    24 h at 12:34:50   |10m|1h|1h|1h| ... |1h|1h|10m|10m|10m|1m|1m|1m|1m|10s|10s|10s|10s|10s|

The far end of a window moves in steps of the resolution still kept there, so a window looks back
between its span less one such step and its span.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from streams.state.slices import LEVELS, SliceId

ROLLING_S = {
    "1m": 60,
    "5m": 300,
    "30m": 1_800,
    "1h": 3_600,
    "6h": 21_600,
    "24h": 86_400,
    "3d": 259_200,
    "30d": 2_592_000,
}


def kept_step_s(at_s: int, watermark_s: int) -> int:
    """Length of the finest slices still kept around `at_s` when the stream is at `watermark_s`."""
    for step_s, keep_s in LEVELS:
        # The slice around `at_s` is kept while its end is within `keep_s` of the watermark.
        if at_s // step_s * step_s + step_s > watermark_s - keep_s:
            return step_s
    return LEVELS[-1].step_s


def rolling(span_s: int, as_of_s: int, watermark_s: int) -> tuple[int, int]:
    """[from_s, to_s) of a rolling window; the slice that is filling at `as_of_s` is part of it."""
    finest = LEVELS[0].step_s
    to_s = as_of_s // finest * finest + finest
    from_s = to_s - span_s
    # The far end lies in the coarsest slices of the window, so it decides.
    step_s = kept_step_s(from_s, max(watermark_s, as_of_s))
    # Rounded up: a slice that begins before the window would count too much.
    return -(-from_s // step_s) * step_s, to_s


def calendar(unit: str, as_of_s: int, zone: ZoneInfo, watermark_s: int) -> tuple[int, int]:
    """Return [from_s, to_s) of the running calendar `day` or `month` in a zone.

    If midnight is not the start of a slice that is still kept (in zones that are off by half an
    hour, days ago), the window begins with the next slice.
    """
    # Midnight by the wall clock: a day on which the clocks change has 23 or 25 hours.
    local = datetime.fromtimestamp(as_of_s, zone).replace(hour=0, minute=0, second=0, fold=0)
    start = local.replace(day=1) if unit == "month" else local
    finest = LEVELS[0].step_s
    to_s = as_of_s // finest * finest + finest
    from_s = int(start.timestamp())
    step_s = kept_step_s(from_s, max(watermark_s, as_of_s))
    # Rounded up, so that no slice of the day before is counted.
    return -(-from_s // step_s) * step_s, to_s


def calendar_end(unit: str, as_of_s: int, zone: ZoneInfo) -> int:
    """First second of the next calendar `day` or `month`."""
    local = datetime.fromtimestamp(as_of_s, zone).replace(hour=0, minute=0, second=0, fold=0)
    if unit == "month":
        # Four days after the 28th is in the next month, however long this one is.
        following = (local.replace(day=28) + timedelta(days=4)).replace(day=1)
    else:
        following = local + timedelta(days=1)
    return int(following.timestamp())


def extent(stored: Collection[SliceId]) -> tuple[int, int]:
    """[from_s, to_s) that all these slices together reach over; there must be one at least."""
    return min(of.start_s for of in stored), max(of.end_s for of in stored)


def cover(
    stored: Collection[SliceId],
    merged_until_s: Sequence[int],
    from_s: int,
    to_s: int,
    reach_s: tuple[int, int] | None = None,
) -> list[SliceId]:
    """The stored slices that add up to [from_s, to_s) of one partition.

    `from_s` must be a multiple of the step still kept there (`kept_step_s`), and `to_s` of that
    same step, or else so near the watermark that no slice since the last whole coarser one has
    expired: 13:09 is no end any more once the minute 13:00 is known only as a part of 13:00-13:10.
    `reach_s`: `extent(stored)`, from a caller that asks for many windows.
    """
    if not stored:
        return []
    earliest, latest = reach_s or extent(stored)
    # Whole days before the first slice are skipped; fewer would change what is aligned to what.
    days_before = (earliest - from_s) // LEVELS[-1].step_s
    position = from_s + max(0, days_before) * LEVELS[-1].step_s
    end_s = min(to_s, latest)
    found = []
    while position < end_s:
        # Coarsest first: the fewer slices, the less to add up.
        for level in reversed(range(len(LEVELS))):
            after = position + LEVELS[level].step_s
            fits = position % LEVELS[level].step_s == 0 and after <= to_s
            # The finest level needs no check: any stretch can be cut into its slices.
            if level == 0 or (fits and after <= merged_until_s[level]):
                break
        of = SliceId(level, position)
        # A slice without events is not stored.
        if of in stored:
            found.append(of)
        position = after
    return found
