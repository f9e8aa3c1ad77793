"""Numbers that alert conditions share, and the windows that they read.

Pure.
"""

from fractions import Fraction

# The window that tells whether a longer one still describes the present. An empty one has no value,
# so without traffic no level holds: as the good requests leave the long window before the bad ones,
# its value can become worse when nobody asks any more.
_SHORTER = {"5m": "1m", "30m": "5m", "1h": "5m", "6h": "30m", "24h": "1h", "3d": "6h", "30d": "3d"}


# How much better than the level the shorter window is once all is well: at the level itself, an
# alert would come and go.
BETTER = Fraction(1, 10)


# Requests that the watched window would hold if it were like the baseline: with fewer, a third of
# the usual volume is chance.
FEWEST_EXPECTED = 50


def windows_read(window: str) -> tuple[str, ...]:
    """A window, and the shorter one that tells whether it still describes the present, if any."""
    return (window, _SHORTER[window]) if window in _SHORTER else (window,)


# Failures in the long window below which nobody is told: ten may be one unlucky customer.
FEWEST_FAILURES = 10


# The same for minutes and slices, whose requests we do not see failing one by one.
FEWEST_REQUESTS = 10
