"""One value is written in one way on every surface: boards, PDF, e-mail, Slack and commands.

The same values are rendered through each surface, and each surface's text is read back from the
place where it stands.
"""

import re
from collections import defaultdict
from contextlib import redirect_stdout
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from io import BytesIO, StringIO
from typing import Any, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from exporters.board.facts import LiveState
from exporters.board.live.page import fragments
from exporters.daily.day.facts import DailyFacts, Value
from exporters.daily.day.verdict import headline
from exporters.daily.delivery.slack import payload
from exporters.daily.render.html import html, message
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.formatting import money
from slo.engine.report import exact
from tests.support.board_samples import WELL, days
from tests.support.daily_samples import TARGETS, some_facts
from tokenpulse.cli.report import print_measures
from tokenpulse.cli.sla import lines

UPTIME_TARGET = Fraction(999, 1000)


class Numbers(NamedTuple):
    """The values of one day of the fleet, and of one objective."""

    requests: int
    tokens: int
    ttft_s: float
    tpot_s: float
    availability: float
    cache_hit: float
    attained: Fraction
    burn: float
    credit: Decimal

    @property
    def budget_left(self) -> Fraction:
        return 1 - (1 - self.attained) / (1 - UPTIME_TARGET)


class Text(HTMLParser):
    """The text of a page, each element's apart; attributes are not read."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.feed(markup)
        self.close()

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.parts).replace("\u00a0", " ").split())


# -- facts -----------------------------------------------------------------------------------------


def daily_facts(numbers: Numbers) -> DailyFacts:
    facts = some_facts()

    def value(number: float, samples: int) -> Value:
        return Value(number, samples, "missed")

    values = replace(
        facts.day.values,
        requests=numbers.requests,
        tokens=value(float(numbers.tokens), numbers.requests),
        ttft_p95_s=value(numbers.ttft_s, numbers.requests),
        tpot_p95_s=value(numbers.tpot_s, numbers.requests),
        availability_ratio=value(numbers.availability, numbers.requests),
        cache_hit_ratio=value(numbers.cache_hit, numbers.tokens),
    )
    day = replace(facts.day, values=values)
    risk = replace(
        facts.risks[0],
        target_ratio=float(UPTIME_TARGET),
        attained_ratio=float(numbers.attained),
        budget_left_ratio=float(numbers.budget_left),
        credit_due=None,
        credit_projected=money(numbers.credit, "USD"),
    )
    return replace(
        facts,
        headline=headline(day, TARGETS, (risk,)),
        days=(*facts.days[:-2], day, facts.days[-1]),
        month_to_date=values,
        risks=(risk,),
        segments=(),
        causes=(),
    )


def live_markup(numbers: Numbers) -> dict[str, str]:
    def tile(of: Any, value: float, samples: int) -> Any:
        return replace(of, value=value, samples=samples, spark=())

    facts = replace(
        WELL,
        requests=numbers.requests,
        tokens=numbers.tokens,
        ttft_p95_s=tile(WELL.ttft_p95_s, numbers.ttft_s, numbers.requests),
        tpot_p95_s=tile(WELL.tpot_p95_s, numbers.tpot_s, numbers.requests),
        availability_ratio=tile(WELL.availability_ratio, numbers.availability, numbers.requests),
        cache_hit_ratio=tile(WELL.cache_hit_ratio, numbers.cache_hit, numbers.tokens),
        objectives=(
            replace(
                WELL.objectives[0],
                budget_left_ratio=float(numbers.budget_left),
                burn=(("5m", numbers.burn),),
            ),
        ),
        history=(
            replace(WELL.history[0], days=days(1, {0: (float(numbers.attained), "breached")})),
        ),
    )
    return fragments(LiveState(facts, None, 1.0))


def sla_entry(numbers: Numbers) -> dict[str, Any]:
    return {
        "policy": "enterprise-sla",
        "objective": "uptime-acme",
        "scope": {},
        "target_ratio": exact(UPTIME_TARGET),
        "period": {"from": "2026-11-01T00:00:00Z"},
        "attainment": {"ratio": exact(numbers.attained)},
        "error_budget_left_ratio": exact(numbers.budget_left),
        "burn_rate": {"5m": numbers.burn},
        "credit": {"due": f"{numbers.credit} USD"},
        "adjustments": [],
    }


def report_total(numbers: Numbers) -> dict[str, Any]:
    return {
        "from": "2026-11-03T00:00:00Z",
        "to": "2026-11-04T00:00:00Z",
        "settled_until": "2026-11-04T00:00:00Z",
        "later": None,
        "steps": [],
        "total": {
            "complete": True,
            "requests": numbers.requests,
            "duplicates": 0,
            "field_faults": {},
            "known_ratio": {},
            "provider": {"attempts": numbers.requests},
            "failures": {"streamed": 0, "unstreamed": 0, "unknown": 0},
            "client_errors": {},
            "endings": {},
            "tier_changed": 0,
            "tokens": {"total": numbers.tokens},
            "availability_ratio": numbers.availability,
            "cache_hit_ratio": numbers.cache_hit,
            "ttft_seconds": {"count": numbers.requests, "p95": numbers.ttft_s},
            "tpot_seconds": {"count": numbers.requests, "p95": numbers.tpot_s},
        },
    }


# -- reading the surfaces --------------------------------------------------------------------------

Readings = dict[str, dict[str, str]]  # value -> surface -> its text


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} not in {text}"
    return match[1]


def read_live(numbers: Numbers) -> dict[str, str]:
    markup = live_markup(numbers)

    def shown(fragment: str, element: str) -> str:
        begin = markup[fragment].index(element)
        return str(Text(f"<{found(r'<(span class=.num.*?</span>)', markup[fragment][begin:])}"))

    return {
        "tokens": shown("status", 'id="tokens-sum"'),
        "requests": shown("status", 'id="requests"'),
        "ttft": shown("tiles", 'id="tile-ttft"'),
        "tpot": shown("tiles", 'id="tile-tpot"'),
        "availability": shown("tiles", 'id="tile-availability"'),
        "cache hit": shown("tiles", 'id="tile-cache"'),
        "budget": shown("objectives", 'class="budget"'),
        "burn": shown("objectives", 'class="burn"'),
        "attained": found(r"2026-11-22, not over: (.*?),", str(Text(markup["uptime"]))),
    }


# Title on the board -> value; what follows the number in running text.
ROWS = {
    "Tokens processed": "tokens",
    "P95 TTFT": "ttft",
    "P95 TPOT": "tpot",
    "Availability": "availability",
    "Cache hit rate": "cache hit",
    "Error budget": "budget",
    "Credits at risk": "credit",
}
ABOUT = {
    "Tokens processed": "input and output",
    "P95 TTFT": "time to first token",
    "P95 TPOT": "time per output token",
    "Availability": "requests that succeeded",
    "Cache hit rate": "input read from the cache",
    "Error budget": "what is left",
    "Credits at risk": "projected, all SLAs",
}
NEXT = r" (?:of [0-9.,]+|no target|missed|met|✕|●|★|unknown)"


def read_sheet(text: str) -> dict[str, str]:
    """Read the page or the PDF."""
    numbers = {
        value: found(rf"{title} {ABOUT[title]} (.+?){NEXT}", text) for title, value in ROWS.items()
    }
    numbers["requests"] = found(r"time to first token .+? of ([0-9,]+) requests", text)
    risks = text[text.index("Objectives at risk") :]
    numbers["attained"] = found(r"Acme Corp ([0-9.]+ %) of", risks)
    numbers["risk's budget"] = found(r"of 99\.9 % (?:missed |met )?(.+?) [0-9.,]+ USD", risks)
    numbers["risk's credit"] = found(r"of 99\.9 % .+? ([0-9.,]+ USD)", risks)
    return numbers


def read_mail(text: str) -> dict[str, str]:
    text = text[text.index("Number This day Target") :]
    return {value: found(rf"{title} (.+?){NEXT}", text) for title, value in ROWS.items()}


def read_plain(text: str) -> dict[str, str]:
    rows = {line.split("  ")[0]: re.split(" {2,}", line) for line in text.splitlines()}
    numbers = {value: rows[title][1] for title, value in ROWS.items()}
    risk = rows["enterprise-sla/uptime-acme"]
    numbers |= {"attained": risk[2].partition(" of ")[0]}
    return {**numbers, "risk's budget": risk[3], "risk's credit": risk[4]}


def read_slack(blocks: dict[str, Any]) -> dict[str, str]:
    [fields] = [block["fields"] for block in blocks["blocks"] if "fields" in block]
    texts = [field["text"].splitlines() for field in fields]
    return {ROWS[title]: value for title, value, *_ in texts}


def read_headline(text: str) -> dict[str, str]:
    """Read the values of missed targets, which are all of them here."""
    return {
        "ttft": found(r"P95 TTFT at (.+?),", text),
        "tpot": found(r"P95 TPOT at (.+?),", text),
        "availability": found(r"availability at (.+?),", text),
        "cache hit": found(r"cache hit rate at (.+?)(?:,| and| missed)", text),
    }


def read_sla(numbers: Numbers) -> dict[str, str]:
    text = "\n".join(lines([sla_entry(numbers)]))
    return {
        "attained": found(r": (.+?) of 99\.9 %", text),
        "budget": found(r"error budget: (.+)", text),
        "burn": found(r"burn rate: 5m (.+)", text),
        "credit": found(r"credit (.+?) now", text),
    }


def read_report(text: str) -> dict[str, str]:
    return {
        "tokens": found(r"tokens +(.+)", text),
        "requests": found(r"requests +(.+)", text),
        "ttft": found(r"ttft +P95 (.+?) of", text),
        "tpot": found(r"tpot +P95 (.+?) of", text),
        "availability": found(r"available +(.+)", text),
        "cache hit": found(r"cache hit +(.+)", text),
    }


def readings(numbers: Numbers) -> Readings:
    facts = daily_facts(numbers)
    printed = " ".join(page.extract_text() for page in PdfReader(BytesIO(pdf(facts))).pages)
    with redirect_stdout(StringIO()) as report:
        print_measures(report_total(numbers), TARGETS)
    surfaces = {
        "live board": read_live(numbers),
        "daily page": read_sheet(str(Text(html(facts)))),
        "PDF": read_sheet(" ".join(printed.split())),
        "e-mail": read_mail(str(Text(message(facts, None)))),
        "plain text": read_plain(plain_text(facts)),
        "Slack": read_slack(payload(facts, None)),
        "headline": read_headline(facts.headline),
        "tokenpulse sla": read_sla(numbers),
        "tokenpulse report": read_report(report.getvalue()),
    }
    by_value: Readings = defaultdict(dict)
    for surface, values in surfaces.items():
        for value, text in values.items():
            by_value[value.removeprefix("risk's ")][f"{surface}, {value}"] = text
    return by_value


# -- the test --------------------------------------------------------------------------------------

SURFACES = {
    "tokens": 7,
    "requests": 4,
    "ttft": 8,
    "tpot": 8,
    "availability": 8,
    "cache hit": 8,
    "budget": 10,
    "credit": 9,
    "attained": 5,
    "burn": 2,
}
ratios = st.integers(1, 10**6).map(lambda millionths: millionths / 10**6)
numbers_of = st.builds(
    Numbers,
    requests=st.integers(1, 10**9),
    tokens=st.integers(1, 10**15),
    ttft_s=st.floats(0.0002, 400),
    tpot_s=st.floats(0.0002, 400),
    availability=ratios,
    cache_hit=ratios,
    attained=st.integers(990_000, 10**6 - 1).map(lambda part: Fraction(part, 10**6)),
    burn=st.floats(0, 900),
    credit=st.integers(1, 10**9).map(lambda cents: Decimal(cents) / 100),
)


@settings(max_examples=8, deadline=None)
@given(numbers=numbers_of)
# Just on one side of each target, where every surface must show more digits.
@example(
    numbers=Numbers(
        requests=4_331_459,
        tokens=12_418_223_907,
        ttft_s=0.29997,
        tpot_s=0.0499999,
        availability=0.9989996,
        cache_hit=0.3999,
        attained=Fraction(9_989_996, 10**7),
        burn=0.9999,
        credit=Decimal(25_000),
    )
)
def test_every_surface_writes_a_value_in_the_same_way(numbers: Numbers) -> None:
    by_value = readings(numbers)
    assert {value: len(texts) for value, texts in by_value.items()} == SURFACES
    for value, texts in by_value.items():
        assert len(set(texts.values())) == 1, (value, texts)
