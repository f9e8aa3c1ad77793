"""The daily board as a PDF: one page, fonts inside, whatever the names are."""

from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader
from pypdf.generic._data_structures import DictionaryObject

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.pdf import MARGIN, pdf
from exporters.daily.render.pdf_text import BOLD, REGULAR, broken, cut, shown, width
from tests.support.checks import not_none
from tests.support.daily_samples import HOSTILE, empty_facts, hostile_facts, some_facts

BOARDS = {"some": some_facts, "hostile": hostile_facts, "empty": empty_facts}


def read(facts: DailyFacts) -> PdfReader:
    return PdfReader(BytesIO(pdf(facts)))


@pytest.mark.parametrize("board", BOARDS)
def test_it_is_one_sheet_and_nothing_stands_outside_its_margins(board: str) -> None:
    [page] = read(BOARDS[board]()).pages
    assert [round(float(side)) for side in page.mediabox] == [0, 0, 595, 842]
    places = []

    def place(
        text: str,
        matrix: list[float],
        text_matrix: list[float],
        font: DictionaryObject | None,
        size: float,
    ) -> None:
        if text.strip():
            places.append((float(text_matrix[4]), float(text_matrix[5])))

    page.extract_text(visitor_text=place)
    assert len(places) > 50
    for x, y in places:
        assert MARGIN - 1 <= x <= 595 - MARGIN
        assert MARGIN <= y <= 842 - MARGIN


def test_it_says_what_it_is_and_brings_its_fonts() -> None:
    found = read(some_facts())
    metadata = not_none(found.metadata)
    assert metadata.title == "Daily reliability board, 2026-11-03"
    assert str(metadata.subject).startswith("Tuesday 3 November 2026: P95 TTFT at 314 ms")
    root: Any = found.trailer["/Root"]
    assert root["/Lang"] == "en"
    resources: Any = found.pages[0]["/Resources"]
    fonts = [one.get_object() for one in resources["/Font"].values()]
    used = [font for font in fonts if font["/Subtype"] == "/TrueType"]
    assert len(used) == 2
    for font in used:
        assert "/FontFile2" in font["/FontDescriptor"]


def test_the_same_day_gives_the_same_bytes() -> None:
    assert pdf(hostile_facts()) == pdf(hostile_facts())


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "\U0001f469" * 300, ""])
@pytest.mark.parametrize("font", [REGULAR, BOLD])
def test_what_the_font_lacks_is_replaced_visibly(text: str, font: str) -> None:
    drawn = shown(text, font)
    assert len(drawn) == len(" ".join(text.split()))
    assert drawn.isprintable()
    for before, after in zip(" ".join(text.split()), drawn, strict=True):
        assert after in (before, "?")


def test_the_sheet_says_so_where_a_character_was_replaced() -> None:
    assert shown("Straße 東京 – 5 €") == "Straße ?? – 5 €"
    told = "? stands for characters that this font lacks"
    words = " ".join(read(hostile_facts()).pages[0].extract_text().split())
    assert told in words
    assert told not in " ".join(read(some_facts()).pages[0].extract_text().split())


def test_text_is_broken_between_words_and_cut_with_an_ellipsis() -> None:
    assert broken("one two three", REGULAR, 10, 45, 3) == ["one two", "three"]
    [first, second] = broken("one two three four five", REGULAR, 10, 45, 2)
    assert first == "one two"
    assert second.endswith("…")
    for line in broken("W" * 200, REGULAR, 10, 100, 4):
        assert width(line, REGULAR, 10) <= 100
    assert cut("short", REGULAR, 10, 100) == "short"
    assert broken("", REGULAR, 10, 100, 2) == []
