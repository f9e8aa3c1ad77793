"""Limits inside alert conditions, shared by the rules and the boards.

Pure. A limit keeps an alert from firing on a handful of requests, or from coming and going around
its threshold.
"""

from fractions import Fraction

# The shorter window that shows whether a longer one still describes the present. An empty window
# has no value, so an alert cannot hold without traffic: good requests leave the long window before
# the bad ones do, and its value can become worse while no requests arrive.
_SHORTER_WINDOW = {
    "5m": "1m",
    "30m": "5m",
    "1h": "5m",
    "6h": "30m",
    "24h": "1h",
    "3d": "6h",
    "30d": "3d",
}

# The shorter window must be better than the threshold by this share before an alert ends; at the
# threshold itself, it would come and go.
RECOVERY_MARGIN = Fraction(1, 10)

# Most requests fail: below this share of successes there is an outage.
OUTAGE_BELOW = "0.5"
OUTAGE_MIN_REQUESTS = 20

# Failures in the long window of a burn rate; ten may be one unlucky customer.
BURN_MIN_FAILURES = 10
# The same limit, as requests, for minutes and slices, which do not show single failures.
BURN_MIN_REQUESTS = 10

# Requests that the watched window would hold if it were like its baseline; with fewer, a third of
# the usual volume is chance.
BASELINE_MIN_REQUESTS = 50


# Share of the requests or tokens for which a measure must be known before a board judges it, if no
# policy sets one: with less, the unknown part could turn the verdict.
KNOWN_MIN_RATIO = Fraction(1, 2)


def windows_of(window: str) -> tuple[str, ...]:
    """Return the windows a condition on `window` reads: itself, and the shorter one if any."""
    return (window, _SHORTER_WINDOW[window]) if window in _SHORTER_WINDOW else (window,)
