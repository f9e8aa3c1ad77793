"""Words of the board: windows, counted things, lists. Pure. Numbers are in text.py."""

import re
from collections.abc import Sequence

_UNITS = {"m": "minute", "h": "hour", "d": "day"}


def last(window: str) -> str:
    """A rolling window: `last 5 minutes`, `last hour`; what is none as it is."""
    found = re.fullmatch("([1-9][0-9]*)([mhd])", window)
    if found is None:
        return window
    number, unit = found[1], _UNITS[found[2]]
    return f"last {unit}" if number == "1" else f"last {number} {unit}s"


def many(count: int, one: str) -> str:
    """`1 worker`, `1,204 records`."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b and c`; `a, b and 7 more`."""
    shown = list(names) if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def capital(text: str) -> str:
    """With a capital letter first."""
    return text[:1].upper() + text[1:]
