"""Calendar days of a zone, and the check that the stored slices can be cut at their midnights.

Pure. A day follows the zone's clocks: it has 23 or 25 hours if they change. It is a sum of
slices only if its midnights fall on slices that are still there: hours are kept for 35 days, UTC
days for 400, so

    UTC                       400 days
    full hours off UTC        35 days
    half hours off UTC        6 hours after the day's end: from then on only as it was sealed
    any other offset          never
"""

from datetime import date as Date
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from streams.state.slices import HORIZON_S
from streams.state.windows import kept_step_s

HOUR_S = 3_600

Stretch = tuple[int, int]  # [from_s, to_s)


class CalendarDay(NamedTuple):
    """One day of the board's zone."""

    date: str  # YYYY-MM-DD
    from_s: int
    to_s: int

    @property
    def stretch(self) -> Stretch:
        """Return its seconds, the end excluded."""
        return self.from_s, self.to_s


def read_date(text: str) -> Date | None:
    """Parse a date written YYYY-MM-DD; return None if the text is no such date."""
    try:
        parsed = Date.fromisoformat(text)
    except ValueError:
        return None
    # The library also takes 20261110 and 2026-W46-2, which would be other names of a day.
    return parsed if parsed.isoformat() == text else None


def day_at(at_s: float, zone: ZoneInfo) -> CalendarDay:
    """Return the day that contains an instant."""
    return day_of(datetime.fromtimestamp(at_s, zone).date(), zone)


def day_of(date: Date, zone: ZoneInfo) -> CalendarDay:
    """Return the day of a date."""
    return CalendarDay(
        date.isoformat(), _midnight(date, zone), _midnight(date + timedelta(days=1), zone)
    )


def days_until(last: Date, count: int, zone: ZoneInfo) -> list[CalendarDay]:
    """Return `count` days that end with `last`, oldest first."""
    return [day_of(last - timedelta(days=back), zone) for back in reversed(range(count))]


def _midnight(date: Date, zone: ZoneInfo) -> int:
    return int(datetime(date.year, date.month, date.day, tzinfo=zone).timestamp())


def fits_slices(stretch: Stretch, watermark_s: int) -> bool:
    """Return True if a partition at `watermark_s` still has slices that make up the stretch."""
    from_s, to_s = stretch
    # Slices before the horizon are deleted.
    if from_s < watermark_s - HORIZON_S:
        return False
    # The far end needs the finest slices that are kept there; the near end is reached by hours,
    # and from its last full hour on by finer ones.
    last_hour_s = max(from_s, to_s // HOUR_S * HOUR_S)
    return (
        from_s % kept_step_s(from_s, watermark_s) == 0
        and to_s % kept_step_s(last_hour_s, watermark_s) == 0
    )


def by_hour(stretch: Stretch) -> list[Stretch]:
    """Return a stretch in parts that end with the full hours."""
    from_s, to_s = stretch
    # The first part may be shorter, if the stretch does not begin with a full hour.
    cuts = [*range(from_s // HOUR_S * HOUR_S + HOUR_S, to_s, HOUR_S), to_s]
    return list(zip([from_s, *cuts], cuts, strict=False))
