"""Daily boards made by hand, for the tests of what shows and delivers them."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from exporters.daily.day.facts import (
    BoardTargets,
    CacheMargin,
    CacheRow,
    Comparison,
    Contract,
    Correction,
    DailyFacts,
    Day,
    GrowthRow,
    GrowthVerdict,
    Mark,
    MetricCause,
    Risk,
    Segment,
    Span,
    Trend,
    Value,
    Values,
)
from exporters.daily.day.verdict import headline

DATE = "2026-11-03"
TARGETS = BoardTargets(0.3, 0.05, 0.999, 0.4, (0.4, 0.6))
HOSTILE = (
    '<script>alert("1")</script><img src=x onerror=alert(2)>',
    '=HYPERLINK("http://127.0.0.1","x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3",
    "\t=1+1",
    "<!channel> <@U1> *bold* _it_ `code` [link](http://127.0.0.1) ![i](x) | ~no~ # top",
    "{{ 7 * 7 }} {% include 'x' %} ${x}",
    "&amp; &lt;b&gt; &copy;",
    "Übermäßig große Straßenbahn 東京 Ελλάδα אבג 👩‍🚀 \u202e gnirts \u0000 \ud800",
    "a\r\nBcc: everyone@example.com",
    "]]><!-- --> ```",
    "W" * 128,
)


def mark_of(metric: str, value: float | None) -> Mark:
    """As the builder marks, near enough."""
    if value is None or metric == "tokens":
        return "unknown"
    if metric == "ttft_p95_s":
        return "best" if value <= 0.15 else "met" if value < 0.3 else "missed"
    if metric == "tpot_p95_s":
        return "best" if value <= 0.025 else "met" if value < 0.05 else "missed"
    if metric == "availability_ratio":
        return "best" if value >= 0.9995 else "met" if value >= 0.999 else "missed"
    return "best" if 0.4 <= value <= 0.6 else "met" if value >= 0.4 else "missed"


def values(
    tokens: float | None,
    ttft_p95_s: float | None,
    tpot_p95_s: float | None,
    availability_ratio: float | None,
    cache_hit_ratio: float | None,
    requests: int = 4_812_733,
) -> Values:
    """Values with the marks and samples that belong to them."""

    def one(metric: str, value: float | None, samples: int) -> Value:
        return Value(value, 0 if value is None else samples, mark_of(metric, value))

    return Values(
        requests,
        one("tokens", tokens, requests),
        one("ttft_p95_s", ttft_p95_s, requests * 9 // 10),
        one("tpot_p95_s", tpot_p95_s, requests * 8 // 10),
        one("availability_ratio", availability_ratio, requests - 1_117),
        one("cache_hit_ratio", cache_hit_ratio, requests * 2_300),
    )


def some_day(on: str, made: Values, **changes: Any) -> Day:
    """A sealed day."""
    begin = int(datetime.fromisoformat(on).replace(tzinfo=UTC).timestamp())
    fields: dict[str, Any] = {
        "date": on,
        "from_s": begin,
        "to_s": begin + 86_400,
        "state": "sealed",
        "complete": True,
        "values": made,
        "sealed_at_s": begin + 86_400 + 6 * 3_600,
    }
    return Day(**fields | changes)


def some_growth() -> tuple[GrowthRow, ...]:
    """All traffic, and some names that grew, fell, are new or changed by chance."""

    def row(
        dimension: str, name: str, tokens: float, *ratios: tuple[float | None, GrowthVerdict]
    ) -> GrowthRow:
        spans: tuple[Span, ...] = ("weekday", "week", "four_weeks", "month")
        return GrowthRow(
            dimension,
            name,
            tokens,
            tuple(
                Comparison(
                    span,
                    tokens * days,
                    None if ratio is None else tokens * days / (1 + ratio),
                    ratio,
                    verdict,
                )
                for (ratio, verdict), span, days in zip(ratios, spans, (1, 7, 28, 3), strict=True)
            ),
            tokens * 30,
        )

    noise: GrowthVerdict = "noise"
    fall: tuple[float, GrowthVerdict] = (-0.31, "down")
    unknown: tuple[None, GrowthVerdict] = (None, "unknown")
    return (
        row("fleet", "", 12.418e9, (0.031, noise), (0.044, "up"), (0.127, "up"), (0.061, noise)),
        row("model", "aurora-4", 8.1e9, (0.08, "up"), (0.09, "up"), (0.21, "up"), (0.11, "up")),
        row(
            "model", "aurora-3", 4.3e9, (-0.09, "down"), (-0.06, noise), (0.0, noise), (0.0, noise)
        ),
        row("segment", "enterprise", 8.8e9, (0.02, noise), (0.0, noise), (0.1, "up"), (0.1, noise)),
        row("segment", "SMB", 694e6, (0.2, noise), (0.01, noise), (0.02, noise), (None, "unknown")),
        row("customer", "Acme Corp", 2.1e9, (-0.31, "down"), (-0.2, "down"), fall, (-0.1, noise)),
        row("customer", "Globex", 0.9e9, unknown, unknown, unknown, unknown),
    )


def some_facts(seed: int = 1, on: str = DATE) -> DailyFacts:
    """A provisional day whose TTFT missed, after a month with most of what can happen."""
    chance = random.Random(seed)
    last = date.fromisoformat(on)
    days = []
    for back in range(29, -1, -1):
        when = last - timedelta(days=back)
        busy = 0.72 if when.weekday() >= 5 else 1.0
        made = values(
            round(12.3e9 * busy * chance.uniform(0.93, 1.06)),
            round(chance.uniform(0.236, 0.289), 4),
            round(chance.uniform(0.033, 0.041), 5),
            round(1 - chance.lognormvariate(-7.6, 0.5), 6),
            round(chance.uniform(0.43, 0.49), 4),
            round(4.8e6 * busy * chance.uniform(0.95, 1.05)),
        )
        days.append(some_day(when.isoformat(), made))
    bad = values(9_812_000_000, 0.412, 0.0388, 0.99712, 0.371)
    days[12] = replace(
        days[12],
        values=bad,
        complete=False,
        note="Records of 02:10 to 02:40 were lost by Kafka before they were counted.",
    )
    days[20] = replace(
        days[20],
        corrections=(Correction("tokens", 12.1e9, 12.102e9, "late events: 812 requests more"),),
    )
    days[3] = some_day(
        days[3].date, values(None, None, None, None, None, 0), state="absent", sealed_at_s=None
    )
    days[-1] = replace(
        days[-1],
        state="provisional",
        sealed_at_s=None,
        values=values(12_418_223_907, 0.3142, 0.03617, 0.999534, 0.462),
        note="Late events count until 2026-11-04 12:00.",
    )
    today = (last + timedelta(days=1)).isoformat()
    running = values(3_212_882_123, 0.2711, 0.0359, 0.99981, 0.4711, 1_202_122)
    days.append(some_day(today, running, state="running", sealed_at_s=None))
    made_at_s = days[-1].from_s + 8 * 3_600
    facts = DailyFacts(
        made_at_s=made_at_s,
        zone="UTC",
        date=on,
        headline="",
        trust="Provisional: the numbers may still change; late events count until "
        "2026-11-04 12:00.",
        days=tuple(days),
        targets=TARGETS,
        trends=(
            Trend("tokens", 12.1e9, 11.9e9, 0.026, 0.0435, True),
            Trend("ttft_p95_s", 0.2731, 0.2672, 0.0411, 0.047, False),
            Trend("tpot_p95_s", 0.0371, 0.0366, -0.00093, -0.00043, True),
            Trend("availability_ratio", 0.99949, 0.99951, 0.000044, 0.000024, True),
            Trend("cache_hit_ratio", 0.4701, None, -0.0081, None, False),
        ),
        month="2026-11",
        month_to_date=values(34_412_998_125, 0.2912, 0.0364, 0.99951, 0.4655, 13_212_777),
        risks=(
            Risk(
                *("enterprise-sla", "uptime-acme", "customer Acme Corp", 0.999, 0.99871),
                *(-0.29, "12,500.00 USD", "25,000.00 USD", False),
            ),
            Risk("default", "uptime", "fleet", 0.999, 0.99951, 0.51, None, None, True),
            Risk(
                *("enterprise-sla", "ttft-globex", "customer Globex", 0.99, 0.9962),
                *(0.62, "0.00 USD", "0.00 USD", False),
            ),
            Risk("default", "ttft-slo", "model aurora-4-mini", 0.99, None, None, None, None, False),
        ),
        causes=(
            MetricCause(
                *("ttft_p95_s", "model", "aurora-4-large", 0.031, 0.004, 0.027),
                "P95 TTFT rose by 47 ms to 314 ms: model aurora-4-large added 31 ms: +27 ms by "
                "rate (its own P95 TTFT rose from 288 ms to 402 ms) and +4 ms by mix (share of "
                "the traffic rose from 22.1 % to 24.3 %).",
            ),
            MetricCause(
                *("ttft_p95_s", "region", "eu-west-1", 0.022, 0.001, 0.021),
                "Region eu-west-1 added 22 ms of this change in P95 TTFT: +21 ms by rate (its "
                "own P95 TTFT rose from 271 ms to 371 ms) and +1 ms by mix (share of the "
                "traffic rose from 31 % to 31.4 %).",
            ),
            MetricCause(
                *("cache_hit_ratio", "customer", "Acme Corp", -0.0061, -0.0042, -0.0019),
                "Cache hit rate fell by 0.8 points to 46.2 %: customer Acme Corp took 0.6 points: "
                "-0.2 points by rate (its own cache hit rate fell from 14.1 % to 12 %) and -0.4 "
                "points by mix (share of the traffic rose from 8.2 % to 11 %).",
            ),
        ),
        segments=(
            Segment("enterprise", 42, 3_102_221, 8_812_000_000, 0.999612, 0.4911),
            Segment("mid-market", 318, 1_212_998, 2_912_000_000, 0.99941, 0.421),
            Segment("SMB", 4_112, 497_514, 694_223_907, 0.99938, 0.362),
        ),
        growth=some_growth(),
        cache=CacheMargin(
            0.4,
            (
                CacheRow("fleet", "", 0.462, 18_412.5, 912.25),
                CacheRow("model", "aurora-3", 0.312, 2_105.1, 912.25),
                CacheRow("model", "aurora-4", 0.541, 16_307.4, 0.0),
                CacheRow("customer", "Acme Corp", 0.12, 301.0, 640.0),
            ),
            120_000,
        ),
        contracts=(
            Contract(
                *("Acme Corp", "enterprise", "e-2026", "2026-11-30", 27, 250_000.0),
                *("enterprise-sla/uptime-acme", 0.999, 0.99871, -0.29, ("25,000.00 USD",), True),
            ),
            Contract(
                *("Globex", "enterprise", None, "2027-01-15", 73, 40_000.0),
                *("enterprise-sla/ttft-globex", 0.99, 0.9962, 0.62, ("0.00 USD",), False),
            ),
            Contract(
                *("Initech", "mid-market", None, "2027-06-30", 239, None),
                *(None, 0.999, 0.9994, None, (), False),
            ),
        ),
    )
    return replace(facts, headline=headline(facts.day, facts.targets, facts.risks))


def hostile_facts() -> DailyFacts:
    """A board every text of which was chosen by somebody who means harm or knows no limit."""
    facts = some_facts()
    texts = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    note = " / ".join(texts)
    return replace(
        facts,
        headline=note,
        trust=note,
        days=(
            *facts.days[:-2],
            replace(
                facts.days[-2],
                note=note,
                complete=False,
                corrections=tuple(Correction("ttft_p95_s", 0.3, 0.31, text) for text in texts),
            ),
            facts.days[-1],
        ),
        causes=tuple(
            MetricCause("ttft_p95_s", "customer", text, 0.01, 0.004, 0.006, f"{text} and {note}")
            for text in (texts[0], texts[5], texts[11])
        ),
        risks=tuple(
            Risk(text, text, text, 0.999, 0.99, -0.5, "1.00 USD", "1,250,000.00 USD", True)
            for text in texts
        ),
        segments=tuple(Segment(text, 1, 2, 3, 0.5, 0.25) for text in texts),
        cache=CacheMargin(
            0.4, tuple(CacheRow("customer", text, 0.1, 1e9, 1e9) for text in texts), 1
        ),
        contracts=tuple(
            replace(facts.contracts[0], name=text, contract=text, segment=text) for text in texts
        ),
        growth=tuple(
            replace(row, name=text)
            for row, text in zip(facts.growth * 2, texts, strict=False)
            if row.dimension != "fleet"
        ),
    )


def empty_facts() -> DailyFacts:
    """A board of a day about which nothing at all is known."""
    facts = some_facts()
    nothing = values(None, None, None, None, None, 0)
    return replace(
        facts,
        headline="No event was counted.",
        trust="There is no data.",
        days=tuple(
            replace(day, state="absent", values=nothing, corrections=(), note="", sealed_at_s=None)
            for day in facts.days
        ),
        targets=BoardTargets(None, None, None, None, None),
        trends=(),
        month_to_date=nothing,
        risks=(),
        causes=(),
        segments=(),
        growth=(),
        cache=None,
        contracts=(),
    )
