"""Weekly and monthly boards in each format: the same words, two pages, links that keep the kind."""

import json
from dataclasses import replace
from io import BytesIO

import jsonschema
import pytest
from pypdf import PdfReader

from exporters.daily.day.facts import DailyFacts, PeriodKind
from exporters.daily.delivery.mail import compose
from exporters.daily.delivery.slack import payload
from exporters.daily.render.data import csv_text, json_schema, json_text
from exporters.daily.render.html import html, message
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import subject, view_of
from streams.config.settings import Daily
from tests.support.edition_samples import some_edition
from tests.support.html_pages import Page

KINDS: tuple[PeriodKind, ...] = ("week", "month")
AGAINST = {
    "week": ("Against week 43", "Against week 40", "Against week 44, 2025"),
    "month": ("Against September", "Against October 2025"),
}
WORDS = {"week": "Week 44, 26 October to 1 November 2026", "month": "October 2026"}


def pdf_text(facts: DailyFacts) -> str:
    pages = PdfReader(BytesIO(pdf(facts))).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_names_the_period_and_has_its_numbers(kind: PeriodKind) -> None:
    facts = some_edition(kind)
    texts = {
        "page": Page(html(facts)).text,
        "mail": Page(message(facts, None)).text,
        "text": plain_text(facts),
        "pdf": pdf_text(facts),
        "slack": json.dumps(payload(facts, None), ensure_ascii=False),
    }
    for name, text in texts.items():
        plain = " ".join(text.replace("\u00a0", " ").split())
        for words in (WORDS[kind], "314 ms", "86.9 B", "99.953 %", "3 of 6 targets met"):
            assert words in plain, (name, words)
        assert "28 days" not in plain.replace("changes in 28 days", ""), name
        if name != "slack":
            title = AGAINST[kind][0]
            assert title in plain or title.lower().replace("september", "September") in plain, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_comparisons_stand_under_their_periods(kind: PeriodKind) -> None:
    view = view_of(some_edition(kind))
    assert view.against_titles == AGAINST[kind]
    assert view.growth_titles == AGAINST[kind]
    [ttft] = [row for row in view.rows if row.key == "ttft_p95_s"]
    assert len(ttft.against) == len(AGAINST[kind])
    assert (ttft.against[0].words, ttft.against[0].better) == ("61.8 ms slower", False)
    assert all(len(row.cells) == len(AGAINST[kind]) for row in view.growth)
    assert (view.growth_totals, view.days_title) == ((), f"13 {kind}s")
    assert subject(view).startswith(f"Reliability {WORDS[kind]}: missed P95 TTFT")


def test_a_running_month_is_projected_and_says_how_much_is_over() -> None:
    view = view_of(some_edition("month", 12))
    assert view.headline.startswith("So far, 12 of 31 days: ")
    assert view.growth_totals == ("Projected",)
    assert {row.totals for row in view.growth} == {("350 B",)}


@pytest.mark.parametrize("kind", KINDS)
def test_links_lead_to_boards_of_the_same_kind(kind: PeriodKind) -> None:
    page = Page(html(some_edition(kind), served=True))
    links = {link for link in page.all("href") if link and link.startswith("daily")}
    label, before = {"week": ("2026-W44", "2026-W43"), "month": ("2026-10", "2026-09")}[kind]
    other = {"week": "month", "month": "week"}[kind]
    for link in (
        f"daily?period={kind}&date={before}",
        f"daily.pdf?period={kind}&date={label}",
        f"daily?period={other}",
        "daily",
    ):
        assert link in links
    alone = Page(html(some_edition(kind)))
    assert not [link for link in alone.all("href") if link and link.startswith("daily")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_board_prints_on_two_pages(kind: PeriodKind) -> None:
    facts = some_edition(kind)
    full = replace(
        facts,
        contracts=tuple(replace(facts.contracts[0], name=f"Customer {at}") for at in range(12)),
        risks=facts.risks[:1] * 6 + facts.risks[1:],
    )
    assert len(PdfReader(BytesIO(pdf(full))).pages) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_programs_read_the_periods(kind: PeriodKind) -> None:
    facts = some_edition(kind)
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(json_text(facts)))
    lines = csv_text(facts).splitlines()
    assert len(lines) == 14
    assert lines[-1].startswith(f"{facts.date},{facts.date}T00:00:00Z,2026-11-")


def test_the_mail_links_to_the_week_and_names_its_file() -> None:
    daily = Daily(
        public_url="https://board.example.com",
        smtp_host="127.0.0.1",
        mail_from="a@example.com",
        mail_to=("b@example.com",),
    )
    made = compose(some_edition("week"), daily, "<1@example.com>")
    text = made.as_string()
    assert "https://board.example.com/daily?period=3Dweek&date=3D2026-W44" in text or (
        "https://board.example.com/daily?period=week&date=2026-W44" in text
    )
    assert [part.get_filename() for part in made.iter_attachments()] == ["daily-2026-W44.pdf"]
