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
# One model in one region: the window of single series that the exporter publishes by default.
CELL_WINDOW = "5m"
# Requests in this window; with fewer, half of them may be one customer.
CELL_MIN_REQUESTS = 100
# One model in one region is slow if fewer of its requests are in time than the first share, and at
# least the second share of the model's other requests, and of the region's.
CELL_IN_TIME_BELOW = Fraction(1, 2)
CELL_ELSEWHERE_IN_TIME = Fraction(3, 4)
# So many regions and models that are down at once page as the fleet, if most requests are theirs.
MANY_PLACES = 3
# A place explains the failures of a wider one if it has more than this share of them.
EXPLAINS_ABOVE = Fraction(9, 10)

# A share of what is usual: requests of the recent window, and of the day before it.
RECENT_MIN_REQUESTS = 20
USUAL_MIN_REQUESTS = 100

# Client errors that were few and are now most of the requests, or nearly all of them. The usual
# share rises while they last, so this limit ends the alert: after seven hours of steady traffic.
CLIENT_ERRORS_MANY = Fraction(1, 2)
CLIENT_ERRORS_NEARLY_ALL = Fraction(9, 10)
CLIENT_ERRORS_USUAL_BELOW = Fraction(1, 4)

# Rate-limited requests deny service only if successes fell below this share of the usual ones: a
# customer whose surplus is limited adds 429s, and takes nothing from the others.
SUCCESSES_FELL_BELOW = Fraction(1, 2)

# A flood: the last hour of a customer has this many requests and this share of all, so many times
# the usual rate, and so many times the usual ratio to all other customers, which also follows the
# hours of the day.
FLOOD_MIN_REQUESTS = 1_000
FLOOD_SHARE = Fraction(1, 10)
FLOOD_TIMES_OWN = 2
FLOOD_TIMES_OTHERS = 5
# A silent customer: this share of the day's requests, so many expected in an hour by what all
# customers send, and hardly any of these. Smaller customers may pause for an hour.
SILENT_USUAL_SHARE = Fraction(1, 10)
SILENT_MIN_EXPECTED = 100
SILENT_BELOW = Fraction(1, 100)
# The last hour's share of the day's requests above which there is no usual day: in the first hours
# of an installation.
HOUR_OF_DAY_MOST = Fraction(1, 2)

# Cached tokens count as unreported below this share of their usual known share; a usual share
# below the second limit is that of a small source, and its end would be noise.
UNREPORTED_BELOW = Fraction(1, 2)
USUAL_KNOWN_SHARE = Fraction(1, 10)

# Requests over the limit in the window of a percentile; fewer may be chance, as of a quiet night.
LATE_MIN_REQUESTS = 10

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
