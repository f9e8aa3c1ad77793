"""Names never become markup or formulas, and the JSON follows its schema."""

import csv
import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from io import BytesIO, StringIO

import jsonschema
import pytest
from pypdf import PdfReader

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.data import COLUMNS, csv_text, json_schema, json_text
from exporters.daily.render.html import content_security_policy, html, message
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import view_of
from tests.support.checks import not_none
from tests.support.daily_samples import (
    DATE,
    HOSTILE,
    empty_facts,
    hostile_facts,
    mark_of,
    some_facts,
)
from tests.support.html_pages import Page
from tests.support.paths import ROOT

# Everything a page of ours is made of.
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "link", "body", "header", "main", "footer", "nav"),
    *("section", "div", "p", "span", "small", "strong", "b", "h1", "h2", "a", "ol", "li"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "form", "label"),
    *("input", "button", "br"),
    *("svg", "symbol", "use", "path", "circle", "line", "polyline"),
}


# -- a page by itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [some_facts(), hostile_facts(), empty_facts()])
@pytest.mark.parametrize("served", [True, False])
def test_the_page_is_whole_and_needs_nothing_else(facts: DailyFacts, served: bool) -> None:
    text = html(facts, served=served)
    page = Page(text)
    assert page.open == []
    assert {name for name, _ in page.elements} <= ELEMENTS
    assert not page.all("style")
    assert not page.all("src")
    allowed = r"#[\w-]+|data:," + (
        r"|daily[\w.]*(\?date=\d{4}-\d\d-\d\d|\?period=\w+)?|\." if served else ""
    )
    for target in page.all("href") + page.all("action"):
        assert re.fullmatch(allowed, not_none(target))
    digest = b64encode(sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in content_security_policy()
    assert content_security_policy() in page.all("content")
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_the_same_facts_give_the_same_bytes() -> None:
    for render in (html, plain_text, csv_text, json_text, pdf):
        assert render(some_facts()) == render(some_facts())


# -- names -----------------------------------------------------------------------------------------


def test_markup_in_names_is_shown_and_does_nothing() -> None:
    facts = hostile_facts()
    for text in (html(facts, served=True), html(facts), message(facts, "https://x.example/daily")):
        page = Page(text)
        assert {name for name, _ in page.elements} <= ELEMENTS
        assert not [name for _, found in page.elements for name in found if name.startswith("on")]
        assert '<script>alert("1")</script>' in page.text
        assert "{{ 7 * 7 }} {% include 'x' %}" in page.text
        assert "&amp; &lt;b&gt; &copy;" in page.text
    assert "javascript:" not in message(facts, None)


def test_no_cell_of_the_csv_is_a_formula() -> None:
    facts = hostile_facts()
    starts = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
    for text in (*HOSTILE, "＝1+1", "\n=1"):
        text = text.encode("utf-8", "replace").decode()
        day = replace(facts.day, note=text)
        out = csv_text(replace(facts, days=(*facts.days[:-2], day, facts.days[-1])))
        assert out.count("\r\n") >= 32
        rows = list(csv.reader(StringIO(out, newline="")))
        assert rows[0] == list(COLUMNS)
        assert len(rows) == 32
        for row in rows:
            assert len(row) == len(COLUMNS)
            assert not [cell for cell in row if cell.startswith(starts)]
        assert rows[-2][-1].removeprefix("'") == text.replace("\0", "�")


def test_no_name_breaks_a_line_or_controls_a_terminal() -> None:
    calm = plain_text(some_facts())
    assert calm.isascii() or all(char.isprintable() or char == "\n" for char in calm)
    for text in (*HOSTILE, "a\u2028b", "a\x0bb", "a\x85b", "\x1b[2J", "\x9b1m", "\u202e"):
        text = text.encode("utf-8", "replace").decode()
        facts = replace(some_facts(), headline=text)
        assert all(char.isprintable() for char in plain_text(facts) if char != "\n")
        assert len(plain_text(facts).splitlines()) == len(calm.splitlines())


def test_plain_text_has_no_escapes_and_aligned_columns() -> None:
    facts = replace(some_facts(), headline="R&D <team>")
    lines = plain_text(facts, "https://board.example.com/daily?date=2026-11-03").splitlines()
    assert "R&D <team>" in lines
    assert "The whole page: https://board.example.com/daily?date=2026-11-03" in lines
    begin = lines.index("", 4) + 1
    table = lines[begin : begin + 8]
    at = table[0].index("target")
    assert [row[at - 2 : at].strip() for row in table] == [""] * 8
    assert table[2][at:].startswith("under 300 ms")
    assert "MISSED" in table[2]


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [some_facts(), hostile_facts(), empty_facts()])
def test_the_json_is_as_its_schema_says(facts: DailyFacts) -> None:
    schema = json.loads((ROOT / "docs/daily.schema.json").read_text())
    assert schema == json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    told = json.loads(json_text(facts))
    jsonschema.Draft202012Validator(schema).validate(told)
    assert told["date"] == DATE
    told["days"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(told)


def test_the_samples_are_marked_as_the_policy_says() -> None:
    assert mark_of("ttft_p95_s", 0.3) == "missed"
    assert mark_of("availability_ratio", 0.999) == "met"


def test_error_budgets_that_read_otherwise_today_are_one_correction() -> None:
    facts = some_facts()
    first, second, *rest = facts.risks
    worse = replace(first, budget_left_ratio=-0.41, credit_projected="27,500.00 USD")
    other = replace(second, budget_left_ratio=0.49)
    unseen = replace(rest[0], budget_left_ratio=0.6189)
    assert rest[0].budget_left_ratio == 0.62
    view = view_of(replace(facts, risks_corrected=(worse, other)))
    assert view.corrections == (
        "Correction, error budget of enterprise-sla/uptime-acme, customer Acme Corp: final as "
        "overdrawn by 29 % and 25,000.00 USD ahead, today overdrawn by 41 % and 27,500.00 USD "
        "ahead (late events or maintenance; 1 more).",
    )
    assert "corrected" in view.badges
    assert not view.reliable
    same = replace(rest[0], attained_ratio=0.99621)  # not a number that is told
    assert view_of(replace(facts, risks_corrected=(same,))).corrections == ()
    assert len(view_of(replace(facts, risks_corrected=(unseen,))).corrections) == 1


def test_what_rate_and_mix_mean_stands_under_the_causes() -> None:
    facts = some_facts()
    pages = PdfReader(BytesIO(pdf(facts))).pages
    printed = " ".join(" ".join(page.extract_text() for page in pages).split())
    for text in (html(facts), plain_text(facts), printed):
        assert "Mix: its share of the traffic changed." in text
    assert "Mix: its" not in html(replace(facts, causes=()))
