"""Colours of lines by what they mean: the same name has the same colour on every board.

Pure. Colours are names of Grafana's palette, which has a shade of each for both themes. Grafana's
own choice by name gives one colour to success and to two kinds of failures.
"""

from exporters.catalogue.requests import UNKNOWN_INPUT
from grafana.panels import LineStyle

# Green is good, red failed, orange was turned away, grey is the client's own.
OUTCOMES = {
    "success": LineStyle("semi-dark-green"),
    "server_error": LineStyle("dark-red"),
    "timeout": LineStyle("red"),
    "stream_error": LineStyle("light-red"),
    "overloaded": LineStyle("dark-orange"),
    "rate_limited": LineStyle("light-orange"),
    "client_error": LineStyle("#8e8e8e"),
    "cancelled": LineStyle("#bdbdbd"),
}

# One hue; the P95, which targets are about, is the heavy line.
QUANTILES = {
    "0.5": LineStyle("super-light-blue", "P50", 1),
    "0.9": LineStyle("light-blue", "P90", 1),
    "0.95": LineStyle("blue", "P95", 3),
    "0.99": LineStyle("dark-blue", "P99", 1),
}

# Windows that end now: the shorter, the lighter.
WINDOWS = {
    "1m": LineStyle("light-purple", width=1),
    "5m": LineStyle("purple"),
    "1h": LineStyle("dark-purple"),
}

# Of an objective that is judged by minutes; the name of the objective stands before them.
VERDICTS = {
    "/ up$/": LineStyle("semi-dark-green"),
    "/ down$/": LineStyle("red"),
    "/ unknown$/": LineStyle("#8e8e8e"),
    "/ excluded$/": LineStyle("#bdbdbd"),
}
TARGET = {"/^target /": LineStyle("#8e8e8e", width=1)}

TOKEN_TYPES = {
    "uncached_input": LineStyle("blue"),
    "cached_input": LineStyle("semi-dark-green"),
    UNKNOWN_INPUT: LineStyle("light-blue"),
    "output": LineStyle("purple"),
}
