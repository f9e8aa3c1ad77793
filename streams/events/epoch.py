"""Units of numbers that are times since the Unix epoch, recognised by their size.

Pure. Times between 2015 and 2100 have other digits in each unit, so that seconds in the place of
milliseconds are seen, and not taken for 1970.
"""

from collections.abc import Mapping
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]

# A unit in milliseconds, as (multiplier, divisor): x / 1000 is exact where x * 0.001 is not.
UNITS: Mapping[Unit, tuple[int, int]] = {
    "s": (1_000, 1),
    "ms": (1, 1),
    "us": (1, 1_000),
    "ns": (1, 1_000_000),
}
UNIT_NAMES: Mapping[Unit, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
EARLIEST_MS, LATEST_MS = 1_420_070_400_000, 4_102_444_800_000  # start of 2015, start of 2100
BEFORE_2015 = "before 2015; send when the request ended, in milliseconds or as RFC 3339"


def time_fault(number: int) -> str | None:
    """Return why a number is no time in milliseconds and what to send; None if its size fits."""
    unit = epoch_unit(number)
    if unit is not None and unit != "ms":
        return unit_hint(unit)
    return BEFORE_2015 if number < EARLIEST_MS else None


def unit_hint(unit: Unit) -> str:
    """Return what a time that is no integer in milliseconds looks like, and what to send."""
    return f"looks like {UNIT_NAMES[unit]}; send {'an integer' if unit == 'ms' else 'milliseconds'}"


def epoch_unit(number: int | float) -> Unit | None:
    """Return the unit in which a number is a time from 2015 to 2100; None if it is in no unit."""
    for unit, (multiplier, divisor) in UNITS.items():
        if EARLIEST_MS <= number * multiplier / divisor <= LATEST_MS:
            return unit
    return None
