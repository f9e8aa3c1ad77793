"""The daily board as a PDF: two pages, fonts inside, whatever the names are."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pypdf import PageObject, PdfReader

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.pdf import page_data, pdf
from tests.support.daily_samples import HOSTILE, empty_facts, hostile_facts, some_facts

BOARDS: dict[str, Callable[[], DailyFacts]] = {
    "some": some_facts,
    "hostile": hostile_facts,
    "empty": empty_facts,
}
MARGIN = 34  # points


def read(facts: DailyFacts) -> PdfReader:
    return PdfReader(BytesIO(pdf(facts)))


def words_of(facts: DailyFacts) -> str:
    return " ".join(" ".join(page.extract_text() for page in read(facts).pages).split())


def fonts_of(facts: DailyFacts) -> set[str]:
    fonts: list[Any] = []
    for page in read(facts).pages:
        fonts += page["/Resources"]["/Font"].values()  # type: ignore[index]
    return {font.get_object()["/BaseFont"].partition("+")[2] for font in fonts}


@pytest.mark.parametrize("board", BOARDS)
def test_it_is_at_most_two_pages_and_no_text_leaves_its_margins(board: str) -> None:
    pages = read(BOARDS[board]()).pages
    # Without growth, all fits on one page.
    assert len(pages) == (1 if board == "empty" else 2)
    for page in pages:
        assert [round(float(side)) for side in page.mediabox] == [0, 0, 595, 842]
        places = places_of(page)
        assert len(places) > 30
        for x, y in places:
            assert MARGIN - 1 <= x <= 595 - MARGIN
            assert MARGIN <= y <= 842 - MARGIN


def test_the_rest_of_the_second_page_has_the_numbers_of_the_last_days() -> None:
    facts = some_facts()
    words = words_of(facts).replace("\u00a0", " ")
    for day in facts.days:
        assert f"{day.date} {day.values.requests:,} " in words
    # With less room, the oldest days are left out, and the page stays full.
    last = read(hostile_facts()).pages[-1]
    assert min(y for _, y in places_of(last)) < 842 / 3


def places_of(page: PageObject) -> list[tuple[float, float]]:
    """The places of all texts, from the lower left corner in points."""
    places: list[tuple[float, float]] = []

    def place(
        text: str, matrix: list[float], text_matrix: list[float], font: Any, size: float
    ) -> None:
        if text.strip():
            # Typst draws with y downwards inside a matrix that turns it.
            x = matrix[0] * text_matrix[4] + matrix[4]
            y = matrix[3] * text_matrix[5] + matrix[5]
            places.append((x, y))

    page.extract_text(visitor_text=place)
    return places


def test_it_says_what_it_is_and_brings_its_fonts() -> None:
    document = read(some_facts())
    assert document.metadata is not None
    assert document.metadata.title == "Daily reliability board, 2026-11-03"
    assert document.metadata.author == "Tokenpulse"
    subject = str(document.metadata.subject).replace("\u00a0", " ")
    assert subject.startswith("P95 TTFT at 314 ms")
    assert str(document.metadata.creation_date).startswith("2026-11-04 08:00:00")
    assert document.trailer["/Root"]["/Lang"] == "en"  # type: ignore[index]
    assert fonts_of(some_facts()) == {"FiraGO-Regular", "FiraGO-Bold"}


def test_the_same_day_gives_the_same_bytes() -> None:
    """Also in another process, which hashes in another order."""
    here = pdf(hostile_facts())
    assert here == pdf(hostile_facts())
    program = (
        "import sys; from exporters.daily.render.pdf import pdf; "
        "from tests.support.daily_samples import hostile_facts; "
        "sys.stdout.buffer.write(pdf(hostile_facts()))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert there.stdout == here


@pytest.mark.parametrize(
    ("name", "font"),
    [
        ("東京ガス株式会社", "NotoSansCJK"),
        ("中小企业客户", "NotoSansCJK"),
        ("한국 고객", "NotoSansCJK"),
        ("Ελλάδα", "FiraGO"),
        ("Кириллица", "FiraGO"),
    ],
)
def test_names_in_other_scripts_are_printed(name: str, font: str) -> None:
    facts = some_facts()
    facts = replace(facts, segments=(replace(facts.segments[0], name=name),))
    assert name in words_of(facts)
    assert any(used.startswith(font) for used in fonts_of(facts))
    assert len(fonts_of(facts)) == (3 if font == "NotoSansCJK" else 2)


@pytest.mark.parametrize(
    "name",
    ["#panic()", '#read("/etc/passwd")', "$x^2$", "*b* _i_ `c`", '"); panic("', "\\ @label <x>"],
)
def test_no_name_is_read_as_markup(name: str) -> None:
    facts = some_facts()
    facts = replace(facts, headline=name, segments=(replace(facts.segments[0], name=name[:14]),))
    assert words_of(facts).count(name[:14]) == 2
    assert name in words_of(facts)


def test_no_control_character_reaches_the_sheet() -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for part in value.values() for text in texts(part)]
        if isinstance(value, list | tuple):
            return [text for part in value for text in texts(part)]
        return [value] if isinstance(value, str) else []

    data = texts(page_data(replace(hostile_facts(), headline=" ".join(HOSTILE))))
    assert len(data) > 100
    assert all(text.replace("\u00a0", " ").isprintable() for text in data)


def test_text_that_is_too_long_is_cut_with_an_ellipsis() -> None:
    facts = some_facts()
    long = " ".join(f"word{number}" for number in range(200))
    words = words_of(replace(facts, headline=long, trust="short"))
    assert "word1 word2 word3" in words
    assert "word199" not in words
    assert words.count("…") == 1
    unbroken = words_of(replace(facts, headline="W" * 300))
    assert unbroken.count("…") == 1
    assert "…" not in words_of(facts)
