"""Colours of lines by what they mean: the same name has the same colour on every board.

Pure. Colours are names of Grafana's palette, which has a shade of each for both themes. Grafana's
own choice by name gives one colour to success and to two kinds of failures.
"""

from exporters.catalogue.requests import UNKNOWN_INPUT
from grafana.panels import Line

# Green is good, red failed, orange was turned away, grey is the client's own.
OUTCOMES = {
    "success": Line("semi-dark-green"),
    "server_error": Line("dark-red"),
    "timeout": Line("red"),
    "stream_error": Line("light-red"),
    "overloaded": Line("dark-orange"),
    "rate_limited": Line("light-orange"),
    "client_error": Line("#8e8e8e"),
    "cancelled": Line("#bdbdbd"),
}

# One hue; the P95, which targets are about, is the heavy line.
QUANTILES = {
    "0.5": Line("super-light-blue", "P50", 1),
    "0.9": Line("light-blue", "P90", 1),
    "0.95": Line("blue", "P95", 3),
    "0.99": Line("dark-blue", "P99", 1),
}

TOKEN_TYPES = {
    "uncached_input": Line("blue"),
    "cached_input": Line("semi-dark-green"),
    UNKNOWN_INPUT: Line("light-blue"),
    "output": Line("purple"),
}
