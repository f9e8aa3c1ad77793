"""Facts of the live board, made by hand, for tests of the page."""

import math
from dataclasses import replace
from typing import Any

from exporters.board.facts import (
    BreakdownRow,
    Freshness,
    HistoryStrip,
    Incident,
    LiveFacts,
    ObjectiveRow,
    State,
    TileValue,
    UptimeDay,
)

NOW_S = 1_795_348_985  # 2026-11-22 12:03:05 UTC


def wave(middle: float, reach: float, gaps: range = range(0)) -> tuple[float | None, ...]:
    """An hour that goes up and down."""
    return tuple(
        None if minute in gaps else middle + reach * math.sin(minute / 5) for minute in range(60)
    )


def place(name: str, state: State = "ok", **changes: Any) -> BreakdownRow:
    """A model or region in good health."""
    return replace(
        BreakdownRow(name, 12_345, 12_300, 0.99968, 0.2124, 11_900, 0.0312, 11_800, 0.5312, state),
        **changes,
    )


def days(number: int, states: dict[int, tuple[float | None, State]]) -> tuple[UptimeDay, ...]:
    """Days that end at 22 November 2026, still running; `states` by position."""
    found = []
    for position in range(number):
        day = 22 - (number - 1 - position)
        date = f"2026-11-{day:02}" if day > 0 else f"2026-10-{31 + day:02}"
        ratio, state = states.get(position, (0.99987, "ok"))
        found.append(UptimeDay(date, ratio, state, position == number - 1))
    return tuple(found)


WELL = LiveFacts(
    made_at_s=NOW_S + 0.25,
    window="5m",
    from_s=NOW_S - 305,
    to_s=NOW_S - 5,
    headline="All objectives are met.",
    state="ok",
    incidents=(),
    ttft_p95_s=TileValue(0.2124, 14_210, 0.3, "ok", wave(0.21, 0.02)),
    tpot_p95_s=TileValue(0.03127, 13_988, 0.05, "ok", wave(0.031, 0.004)),
    cache_hit_ratio=TileValue(0.5312, 9_876_543, 0.4, "ok", wave(0.53, 0.03)),
    availability_ratio=TileValue(0.99968, 15_200, 0.999, "ok", wave(0.9996, 0.0003)),
    tokens_per_s=TileValue(41_234.5, 15_234, None, "ok", wave(41_000, 4_000)),
    requests=15_234,
    tokens=12_370_350,
    objectives=(
        ObjectiveRow(
            "default",
            "uptime",
            "99.9 % of the requests that count succeed, over any 30 days.",
            "fleet",
            "promise",
            "ok",
            "99.968 %",
            "at least 99.9 %",
            "last 30 days",
            0.684,
            (("5m", 0.3), ("1h", 0.4), ("6h", 0.38)),
        ),
        ObjectiveRow(
            "default", "ttft-p95", "Time to first token, P95 under 300 ms.", "fleet", "level", "ok",
            "212 ms", "under 300 ms", "last 5 minutes",
        ),
    ),
    history=(HistoryStrip("default", "uptime", "fleet", 0.999, days(30, {})),),
    models=(place("aurora-4-large"), place("aurora-4-small")),
    regions=(place("eu-west-1"), place("us-east-1")),
    freshness=Freshness("ok", "Fresh: events are counted within a second.", 0.84, 12, 2, True),
)  # fmt: skip

WITH_INCIDENTS = replace(
    WELL,
    headline="Availability is 98.71 %, below 99.9 %: region eu-west-1 fails 41 % of its requests.",
    state="breached",
    incidents=(
        Incident(
            "page",
            "Region eu-west-1 answers 59.2 % of its requests; 1,204 of 2,951 failed in 5 minutes.",
            "TokenpulseOutage",
            "TokenpulseOutage",
        ),
        Incident(
            "page",
            "The error budget of uptime (fleet) burns 18.4 times too fast; at this speed it is "
            "spent in 1 d 14 h.",
            "TokenpulseErrorBudgetBurn",
            "TokenpulseErrorBudgetBurn",
        ),
        Incident(
            "ticket",
            "The cache hit rate is 37.2 %, below 40 %: aurora-4-medium fell from 51 % to 22 %.",
            "TokenpulseCacheHitLow",
            "TokenpulseCacheHitLow",
        ),
        Incident("info", "12 records were refused in the last 5 minutes.", None),
    ),
    ttft_p95_s=TileValue(0.2897, 14_210, 0.3, "at_risk", wave(0.26, 0.035)),
    cache_hit_ratio=TileValue(0.372, 9_876_543, 0.4, "breached", wave(0.42, 0.06)),
    availability_ratio=TileValue(0.98714, 15_200, 0.999, "breached", wave(0.997, 0.0029)),
    tpot_p95_s=TileValue(None, 0, 0.05, "unknown", wave(0.031, 0.004, range(20, 32))),
    objectives=(
        replace(
            WELL.objectives[0],
            state="breached",
            value="99.871 %",
            budget_left_ratio=-0.29,
            burn=(("5m", 18.4), ("1h", 6.2), ("6h", 1.4)),
        ),
        ObjectiveRow(
            "default",
            "cache-hit",
            "Input tokens read from the prompt cache. Below 30 % the margin is gone.",
            "fleet", "level", "breached", "37.2 %", "at least 40 %",
        ),
        ObjectiveRow(
            "acme", "uptime", "What Acme Corp was promised.", "customer Acme Corp", "promise",
            "at_risk", "99.912 %", "at least 99.9 %", "this month", 0.117,
            (("5m", 2.1), ("1h", 1.2)),
        ),
        WELL.objectives[1],
        ObjectiveRow(
            "default", "tpot-p95", "Time per output token, P95 under 50 ms.", "fleet", "level",
            "unknown", "unknown", "under 50 ms",
        ),
    ),
    history=(
        HistoryStrip(
            "default", "uptime", "fleet", 0.999,
            days(30, {0: (None, "unknown"), 1: (None, "unknown"), 9: (0.99912, "at_risk"),
                      17: (0.9961, "breached"), 29: (0.98714, "breached")}),
        ),
        HistoryStrip(
            "acme", "uptime", "customer Acme Corp", 0.999,
            days(30, {3: (0.9999996, "ok"), 29: (0.99912, "at_risk")}),
        ),
    ),
    models=(
        place("aurora-4-medium", "breached", availability_ratio=0.9713, cache_hit_ratio=0.2214),
        place("aurora-4-large", "at_risk", ttft_p95_s=0.29966),
        place("a-very-long-model-name/with-an-owner:and-a-version-2026-11-22", "ok"),
        place("aurora-4-small", "unknown", ttft_p95_s=None, ttft_samples=0, tpot_p95_s=None),
    ),
    regions=(
        place("eu-west-1", "breached", availability_ratio=0.592, requests=2_951, eligible=2_951),
        place("us-east-1"),
        place("ap-southeast-2"),
    ),
)  # fmt: skip

STALE = replace(
    WELL,
    headline="The numbers are old: no worker has counted anything for 42 s.",
    state="unknown",
    incidents=(
        Incident(
            "page", "No worker has left a sign of life for 42 s.", "TokenpulseDataStale",
            "TokenpulseDataStale",
        ),
    ),
    freshness=Freshness(
        "breached", "Stale: nothing has been counted for 42 s.", 42.1, None, 0, False
    ),
)  # fmt: skip
