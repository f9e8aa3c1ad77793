"""Texts of the facts on the live board: shown as they are, and never markup or an event."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.board.facts import (
    LiveFacts,
)
from exporters.board.live.page import fragments
from exporters.board.live.routes import event, news
from exporters.formatting import unbroken
from tests.support.board_markup import parsed, shown_text, state, whole, with_strings
from tests.support.board_samples import STALE, WELL, WITH_INCIDENTS

HOSTILE = '</script><script>alert(1)</script>\' onload="x" {{ 7*7 }} &lt; \r\ndata: x'


@settings(deadline=None, max_examples=25)
@given(st.text(min_size=1, max_size=40) | st.just(HOSTILE))
def test_no_text_of_the_facts_can_change_the_structure_of_the_page(text: str) -> None:
    # Alert and runbook are shown once where they are the same, so both pages have them the same.
    harmless = whole(with_strings(WITH_INCIDENTS, lambda _: "x"))
    assert parsed(whole(with_strings(WITH_INCIDENTS, lambda _: text))).elements == (
        parsed(harmless).elements
    )


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=40))
def test_every_text_of_the_facts_is_shown_as_it_is(text: str) -> None:
    text = text.replace("\r", " ").replace("\0", "0")  # which no HTML can hold
    outline = parsed(fragments(state(with_strings(WELL, lambda _: text)))["objectives"])
    assert any(unbroken(text) in one for one in outline.texts)
    assert ("tr", "data-objective", f"{text}/{text}") in outline.values


@pytest.mark.parametrize("facts", [WITH_INCIDENTS, STALE, None])
def test_a_hostile_text_stays_text(facts: LiveFacts | None) -> None:
    markup = (
        whole(with_strings(facts, lambda _: HOSTILE)) if facts is not None else whole(None, HOSTILE)
    )
    assert "<script>alert" not in markup
    assert "alert(1)" in markup, "shown, but escaped"
    assert "49" not in re.sub(r"\d{3,}", "", shown_text(fragments(state(None, HOSTILE))["status"]))
    scripts = [attrs for tag, attrs in parsed(markup).elements if tag == "script"]
    assert scripts == [("src", "defer")]


def read_events(stream: bytes) -> list[tuple[str, str]]:
    """What a browser makes of a stream, by the rules of the HTML standard."""
    found, name = [], "message"
    data: list[str] = []
    for line in re.split(r"\r\n|\r|\n", stream.decode()):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                found.append((name, "\n".join(data)))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return found


@settings(deadline=None)
@given(st.text())
def test_no_text_can_end_an_event_or_begin_another(text: str) -> None:
    [(name, data)] = read_events(event("board", text))
    assert name == "board"
    assert data == re.sub(r"\r\n|\r", "\n", text)


@settings(deadline=None, max_examples=30)
@given(st.text(min_size=1) | st.just("\n\nevent: x\rdata: y\u2028"))
def test_news_arrive_whole_whatever_stands_in_the_facts(text: str) -> None:
    shown = state(with_strings(WITH_INCIDENTS, lambda _: text))
    [(name, data)] = read_events(news(shown, fragments(shown)))
    assert name == "board"
    assert json.loads(data)["parts"] == fragments(shown)
