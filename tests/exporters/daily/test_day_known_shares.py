"""How much of a day is known: in its values, its stored form, and every format of the board."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, DailyFacts, Value
from exporters.daily.day.final import FinalCounts
from exporters.daily.day.metrics import segments_of, values_of
from exporters.daily.delivery.slack import payload
from exporters.daily.render.data import csv_text
from exporters.daily.render.html import html, message
from exporters.daily.render.pdf import page_data
from exporters.daily.render.plain_text import plain_text
from exporters.reference.customers import Customer
from streams.state.tables import Table
from tests.support.daily_samples import TARGETS, some_facts

# 40 requests: 38 answered by a model, 30 of them streamed; 20 have tokens, 15 a TTFT.
PARTLY = Counts(
    requests=40,
    eligible=40,
    successes=38,
    input_tokens=20_000,
    cached_tokens=3_000,
    cached_of_tokens=8_000,
    output_tokens=2_000,
    answered=38,
    tokens_known=19,
    streamed=30,
    ttft=Table(np.array([900]), np.array([15])),
)


def test_values_have_the_share_that_they_are_known_for() -> None:
    values = values_of(PARTLY, TARGETS)
    assert values.tokens.known_ratio == 0.5
    assert values.ttft_p95_s.known_ratio == 0.5
    assert values.cache_hit_ratio.known_ratio == 0.4
    assert (values.cache_hit_ratio.value, values.cache_hit_ratio.samples) == (0.375, 8_000)
    assert values.tpot_p95_s.known_ratio is None
    assert values.availability_ratio.known_ratio is None
    total = values_of(Counts.sum([PARTLY, PARTLY]), TARGETS)
    assert total.ttft_p95_s.known_ratio == total.tokens.known_ratio == 0.5


@pytest.mark.parametrize("targets", [TARGETS, BoardTargets(None, None, None, 0.4, None)])
@pytest.mark.parametrize(("known", "mark"), [(9_999, "unknown"), (10_000, "missed")])
def test_a_hit_rate_known_for_less_than_half_of_the_input_is_not_judged(
    targets: BoardTargets, known: int, mark: str
) -> None:
    counts = replace(PARTLY, cached_of_tokens=known)
    assert values_of(counts, targets).cache_hit_ratio.mark == mark


def test_tokens_that_no_request_reports_are_unknown() -> None:
    counts = Counts(requests=5, eligible=5, successes=5, answered=5)
    assert values_of(counts, TARGETS).tokens == Value(None, 5, "unknown", 0.0)
    (segment,) = segments_of({"t": counts}, {"t": Customer("Acme", "enterprise")})
    assert (segment.tokens, segment.tokens_known_ratio) == (None, 0)


def test_stored_counts_keep_the_shares() -> None:
    stored, _ = FinalCounts.unpack(FinalCounts.of(PARTLY, {}).pack())
    assert values_of(stored, TARGETS) == values_of(PARTLY, TARGETS)


def test_counts_of_a_version_without_shares_were_all_known() -> None:
    packed = msgspec.json.decode(FinalCounts.of(PARTLY, {}).pack())
    del packed["fleet"][8:]
    values = values_of(FinalCounts.unpack(msgspec.json.encode(packed))[0], TARGETS)
    assert values.tokens.known_ratio == values.ttft_p95_s.known_ratio == 1
    assert values.cache_hit_ratio.known_ratio == 1


def facts_with(cached: float | None, ttft: float | None) -> DailyFacts:
    """A board whose day has these shares; its hit rate is not judged."""
    facts = some_facts()
    values = facts.day.values
    changed = replace(
        values,
        ttft_p95_s=replace(values.ttft_p95_s, known_ratio=ttft),
        cache_hit_ratio=replace(values.cache_hit_ratio, known_ratio=cached, mark="unknown"),
    )
    return replace(
        facts,
        days=(*facts.days[:-2], replace(facts.days[-2], values=changed), facts.days[-1]),
        segments=(
            replace(facts.segments[0], cached_known_ratio=cached, tokens_known_ratio=0.25),
            *facts.segments[1:],
        ),
    )


def test_every_format_shows_the_known_share() -> None:
    facts = facts_with(0.4123, 0.75)
    cache, ttft = "known for 41.2 % of input tokens", "known for 75 % of streamed requests"
    formats = {
        "page": html(facts),
        "mail": message(facts, None),
        "text": plain_text(facts),
        "slack": str(payload(facts, None)),
        "pdf": str(page_data(facts)),
    }
    # A repr writes a no-break space as an escape.
    formats = {
        name: text.replace("\u00a0", " ").replace("\\xa0", " ") for name, text in formats.items()
    }
    for name, text in formats.items():
        assert cache in text, name
        assert ttft in text, name
        assert "too little known" in text, name
    for name in ("page", "text", "pdf"):
        assert "25 % known" in formats[name], name
    assert "Cache hit rate: this day known for 41.2 % of input tokens." in formats["text"]


def test_no_format_mentions_a_share_of_all_or_of_nothing() -> None:
    for facts in (some_facts(), replace(facts_with(1.0, 1.0), segments=())):
        for text in (html(facts), message(facts, None), plain_text(facts)):
            assert "known for" not in text


def test_csv_has_a_column_for_each_share() -> None:
    head, *lines = csv_text(facts_with(0.4123, None)).splitlines()
    day = dict(zip(head.split(","), lines[-2].split(","), strict=False))
    assert day["cache_hit_ratio_known_ratio"] == "0.4123"
    assert day["ttft_p95_s_known_ratio"] == ""
    assert "tokens_known_ratio" in day
    assert "tpot_p95_s_known_ratio" not in day
