"""All formats of a day show the same numbers and remarks."""

import csv
import json
import re
from dataclasses import replace
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from exporters.daily.day import figures
from exporters.daily.day.facts import METRICS, Correction, DailyFacts, Metric, Values
from exporters.daily.day.text import with_names
from exporters.daily.render.data import csv_text, json_text
from exporters.daily.render.html import html, message
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import subject, view_of
from slo.policy.units import Money
from tests.support.checks import not_none
from tests.support.daily_samples import (
    empty_facts,
    some_facts,
    values,
)
from tests.support.html_pages import Page, one_line


def pdf_words(content: bytes) -> str:
    return one_line(" ".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages))


def test_only_objectives_that_may_miss_are_shown_as_at_risk() -> None:
    view = view_of(some_facts())
    assert [risk.name for risk in view.risks] == ["enterprise-sla/uptime-acme"]
    assert view.risks_note == (
        "2 objectives have at least 25 % of the budget left; 1 objective has no data."
    )
    low = tuple(replace(risk, budget_left_ratio=0.2) for risk in some_facts().risks)
    assert len(view_of(replace(some_facts(), risks=low)).risks) == 4
    assert view_of(replace(some_facts(), risks=low)).risks_note == ""


def test_no_hash_of_a_customer_reaches_a_reader() -> None:
    token = "3f9c02" * 4
    assert with_names(f"customer {token}", lambda name: name) == "customer unlisted 3f9c02"
    assert with_names(f"customer {token}", {token: "Acme"}.__getitem__) == "customer Acme"


# -- numbers ---------------------------------------------------------------------------------------

ratio = st.none() | st.floats(0, 1)
seconds = st.none() | st.floats(0.0001, 500)
made = st.builds(values, st.none() | st.integers(0, 10**15), seconds, seconds, ratio, ratio)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(day=made, month=made)
def test_every_format_says_the_same_numbers(day: Values, month: Values) -> None:
    facts = some_facts()
    chosen = replace(facts.day, values=day)
    facts = replace(facts, days=(*facts.days[:-2], chosen, facts.days[-1]), month_to_date=month)
    page, mail, text = Page(html(facts)).text, Page(message(facts, None)).text, plain_text(facts)
    printed = pdf_words(pdf(facts))
    told = json.loads(json_text(facts))["days"][-2]["values"]
    row = list(csv.DictReader(StringIO(csv_text(facts), newline="")))[-2]
    for metric in METRICS:
        found, target = day.of(metric), facts.targets.of(metric)
        for value in (found.value, month.of(metric).value):
            read = figures.figure(metric, value, target)
            for shown in (page, mail, text, printed):
                assert read in shown
        assert told[metric]["value"] == found.value
        assert (float(row[metric]) if row[metric] else None) == found.value
        assert row[f"{metric}_mark"] == told[metric]["mark"] == found.mark


@given(st.sampled_from(METRICS[1:]), st.floats(0.0001, 0.9999))
def test_a_number_never_reads_as_if_it_were_on_the_other_side_of_its_target(
    metric: Metric, value: float
) -> None:
    for target in (Decimal("0.3"), Decimal("0.05"), Decimal("0.999"), Decimal("0.4")):
        digits, unit = figures.figure(metric, value, float(target)).split()
        scale = {"ms": 1_000, "s": 1, "%": 100}[unit]
        assert (Decimal(digits) < target * scale) == (Decimal(str(value)) < target)


@pytest.mark.parametrize(
    ("metric", "value", "target", "read"),
    [
        ("tokens", 0, None, "0"),
        ("tokens", 999, None, "999"),
        ("tokens", 12_418_223_907, None, "12.4 B"),
        ("tokens", 999_999_999, None, "1 B"),
        ("ttft_p95_s", 0.29996, 0.3, "299.96 ms"),
        ("ttft_p95_s", 0.29996, None, "300 ms"),
        ("ttft_p95_s", 0.3, 0.3, "300 ms"),
        ("tpot_p95_s", 0.04999, 0.05, "49.99 ms"),
        ("tpot_p95_s", 0.00123, 0.05, "1.2 ms"),
        ("ttft_p95_s", 12.34, 0.3, "12.34 s"),
        ("availability_ratio", 0.9989999, 0.999, "99.899 %"),
        ("availability_ratio", 1.0, 0.999, "100 %"),
        ("cache_hit_ratio", 0.29, 0.4, "29 %"),
        ("cache_hit_ratio", None, 0.4, "unknown"),
    ],
)
def test_numbers_are_read_with_their_unit_on_their_side_of_the_target(
    metric: Metric, value: float | None, target: float | None, read: str
) -> None:
    assert figures.figure(metric, value, target) == read


@pytest.mark.parametrize(
    ("metric", "by", "read"),
    [
        ("tokens", 0.0435, "4.4 % more"),
        ("tokens", -0.5, "50 % less"),
        ("ttft_p95_s", 0.047, "47 ms slower"),
        ("tpot_p95_s", -0.00043, "0.4 ms faster"),
        ("tpot_p95_s", -0.00003, "as usual"),
        ("availability_ratio", 0.00012, "0.012 points higher"),
        ("cache_hit_ratio", -0.0081, "0.81 points lower"),
        ("cache_hit_ratio", 0.000004, "as usual"),
        ("tokens", 0.00001, "as usual"),
        ("tokens", None, "no norm yet"),
    ],
)
def test_changes_are_read_as_what_they_mean(metric: Metric, by: float | None, read: str) -> None:
    assert figures.change(metric, by) == read


def test_credits_of_several_currencies_are_not_added_up() -> None:
    texts = ["1,250.00 USD", "0.50 USD", "3.00 EUR"]
    amounts = [Money.read(text) for text in texts]
    assert figures.total(amounts) == "3.00 EUR + 1,250.50 USD"
    assert figures.total([]) is None


def test_nothing_known_is_never_shown_as_zero() -> None:
    facts = empty_facts()
    page = Page(html(facts))
    assert page.text.count("unknown") >= 7
    assert not re.search(r"\b0(\.0+)? ?(ms|%|B|M|USD)", page.text)
    assert "no data" in page.text
    for row in csv.DictReader(StringIO(csv_text(facts))):
        assert all(row[metric] == "" for metric in METRICS)


# -- what is said of a day -------------------------------------------------------------------------


def about(**changes: Any) -> DailyFacts:
    facts = some_facts()
    day = replace(facts.day, **{"state": "sealed", "note": "", **changes})
    return replace(facts, days=(*facts.days[:-2], day, facts.days[-1]))


@pytest.mark.parametrize(
    ("changes", "badges"),
    [
        ({}, "final"),
        ({"state": "provisional"}, "provisional"),
        ({"state": "running"}, "still running"),
        ({"state": "absent"}, "no data"),
        ({"complete": False}, "final, incomplete"),
        (
            {
                "corrections": (
                    Correction("ttft_p95_s", 0.312, 0.314, "late events: 9 requests more"),
                )
            },
            "final, corrected",
        ),
    ],
)
def test_a_day_that_is_not_final_complete_and_uncorrected_says_so_everywhere(
    changes: dict[str, Any], badges: str
) -> None:
    facts = about(**changes)
    assert view_of(facts).badges == tuple(badges.split(", "))
    assert badges.replace(", ", " ") in Page(html(facts)).text
    assert f"({badges})" in plain_text(facts)
    assert f"({badges})" in pdf_words(pdf(facts))
    assert f"({badges})" in subject(view_of(facts))
    assert f"({badges})" in Page(message(facts, None)).text


def test_a_correction_is_shown_beside_what_was_sealed() -> None:
    corrected = Correction("ttft_p95_s", 0.312, 0.314, "late events: 9 requests more")
    facts = about(corrections=(corrected,))
    words = "Correction, P95 TTFT: final as 312 ms, today 314 ms (late events: 9 requests more)."
    for text in (Page(html(facts)).text, plain_text(facts), pdf_words(pdf(facts))):
        assert words in text


def test_the_subject_names_what_was_missed() -> None:
    assert subject(view_of(some_facts())) == (
        "Reliability 2026-11-03: missed P95 TTFT, Error budget, Credits at risk (provisional)"
    )
    facts = replace(about(values=values(1, 0.1, 0.01, 1.0, 0.5)), risks=())
    assert subject(view_of(facts)) == "Reliability 2026-11-03: all 4 targets met (final)"


def test_every_mark_stands_beside_its_word() -> None:
    page = Page(html(some_facts()))
    for word in ("best in class", "met", "missed", "no target"):
        assert word in page.text
    used = {value for value in page.all("href") if value and value.startswith("#mark-")}
    assert used == {"#mark-best", "#mark-met", "#mark-missed", "#mark-unknown"}


def test_each_number_has_its_target_norms_and_month() -> None:
    row = next(row for row in view_of(some_facts()).rows if row.key == "ttft_p95_s")
    assert (row.value.text, row.value.words, row.target) == ("314 ms", "missed", "under 300 ms")
    week, four_weeks = row.against
    assert (week.words, week.norm) == ("41.1 ms slower", "norm 273 ms")
    assert (four_weeks.words, four_weeks.better) == ("47 ms slower", False)
    assert (not_none(row.month).text, not_none(row.month).words) == ("291 ms", "met")
    assert row.samples == "of 4,331,459 requests"


def test_the_worst_budget_and_all_credits_stand_among_the_seven() -> None:
    rows = {row.key: row for row in view_of(some_facts()).rows}
    assert len(rows) == 7
    assert rows["error_budget"].value.text == "overdrawn by 29 %"
    assert "enterprise-sla/uptime-acme" in rows["error_budget"].note
    assert rows["credits"].value.text == "25,000.00 USD"
    assert rows["credits"].note == "12,500.00 USD due if the period ended now"


def test_a_running_day_is_not_held_against_the_tokens_of_whole_days() -> None:
    facts = some_facts()
    trend = replace(facts.trends[0], change_7d=None, change_28d=None, better=None)
    [row, *_] = view_of(replace(facts, trends=(trend, *facts.trends[1:]))).rows
    week = row.against[0]
    assert (week.words, week.norm) == ("the day is not over", "norm 12.1 B on Tuesdays")
    [row, *_] = view_of(replace(facts, trends=())).rows
    week = row.against[0]
    assert (week.words, week.norm) == ("no norm yet", "")


def test_links_lead_to_the_days_that_there_are() -> None:
    view = view_of(some_facts())
    assert (view.previous, view.next) == ("2026-11-02", "2026-11-04")
    facts = some_facts()
    view = view_of(replace(facts, date="2026-11-04"))
    assert (view.previous, view.next) == ("2026-11-03", None)
    assert view_of(replace(facts, date=facts.days[0].date)).previous is None
