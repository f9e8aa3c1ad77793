"""The live board's HTML: what is shown, what is not known, and that no name can become markup."""

import dataclasses
import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exporters.board.facts as facts_module
from exporters.board.facts import (
    Incident,
    LiveFacts,
    LiveState,
    State,
    TileValue,
)
from exporters.board.live.page import FRAGMENTS, fragments, page, with_keys
from exporters.board.live.routes import assets, build, event, live_json, news
from exporters.formatting import budget_left, unbroken
from tests.support.board_samples import STALE, WELL, WITH_INCIDENTS
from tests.support.checks import not_none

STATIC = Path(facts_module.__file__).parent / "static"
HOSTILE = '</script><script>alert(1)</script>\' onload="x" {{ 7*7 }} &lt; \r\ndata: x'


def state(facts: LiveFacts | None, problem: str | None = None) -> LiveState:
    return LiveState(facts, problem, 1.0)


def whole(facts: LiveFacts | None, problem: str | None = None) -> str:
    shown = state(facts, problem)
    return page(fragments(shown), shown, {name: one.address for name, one in assets().items()}, "b")


class Outline(HTMLParser):
    """Elements with the names of their attributes, all texts and all attribute values."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.values: list[tuple[str, str, str]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(markup: str) -> Outline:
    # A parser of HTML takes \r\n and \r for \n before it does anything else.
    return Outline(markup.replace("\r\n", "\n").replace("\r", "\n"))


def shown_text(markup: str) -> str:
    return " ".join(" ".join(parsed(markup).texts).split()).replace("\u00a0", " ")


def with_strings(value: Any, change: Callable[..., Any], path: tuple[str | int, ...] = ()) -> Any:
    """The same facts with every free text changed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        return dataclasses.replace(
            value,
            **{
                field.name: with_strings(getattr(value, field.name), change, (*path, field.name))
                for field in dataclasses.fields(value)
                if get_args(hints[field.name]) not in CLOSED
            },
        )
    if isinstance(value, tuple):
        return tuple(with_strings(one, change, (*path, n)) for n, one in enumerate(value))
    return change(value) if isinstance(value, str) else value


CLOSED = [get_args(one) for one in (State, facts_module.Severity)] + [("promise", "level")]


def strings_of(facts: Any) -> list[str]:
    found: list[str] = []

    def collect(text: str) -> str:
        found.append(text)
        return text

    with_strings(facts, collect)
    return found


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


def test_what_is_not_known_is_called_so_and_never_zero() -> None:
    nothing = TileValue(None, 0, 0.3, "unknown", (None,) * 60)
    facts = dataclasses.replace(
        WELL,
        ttft_p95_s=nothing,
        availability_ratio=nothing,
        freshness=dataclasses.replace(
            WELL.freshness, newest_event_age_s=None, lag_records=None, state="unknown"
        ),
    )
    parts = fragments(state(facts))
    for key in ("ttft", "availability"):
        tile = not_none(re.search(rf'id="tile-{key}".*?</li>', parts["tiles"], re.DOTALL)).group()
        assert 'class="value"><span class="num none" data-value="">unknown</span>' in tile
        assert "Last 60 minutes: nothing known." in tile
        assert "Unknown" in tile
    told_words = shown_text(parts["status"])
    assert "Newest event unknown" in told_words
    assert "Waiting in Kafka unknown" in told_words


def test_the_full_value_stands_beside_what_is_shown() -> None:
    parts = fragments(state(WITH_INCIDENTS))
    assert 'data-value="0.2897">290' in parts["tiles"]
    assert 'data-value="0.98714">98.7' in parts["tiles"]
    assert 'data-value="0.29966">299.7' in parts["models"], "kept off the target of 300 ms"
    assert 'data-value="15234">15,234' in parts["status"]


def test_a_day_of_99_99999_percent_is_not_shown_as_100() -> None:
    assert "2026-10-27: 99.999\u00a0%, Met" in fragments(state(WITH_INCIDENTS))["uptime"]


def test_a_budget_is_left_spent_or_overdrawn() -> None:
    said = [budget_left(one) for one in (None, 0.7318, 0.0, -0.0042, -2.471)]
    assert said == ["unknown", "73.2 % left", "all spent", "overdrawn by 0.42 %",
                    "overdrawn by 247 %"]  # fmt: skip


def test_nothing_wrong_is_said_in_words() -> None:
    assert "No incidents." in fragments(state(WELL))["incidents"]


def test_a_state_is_always_told_by_a_word_and_a_shape() -> None:
    for part in fragments(state(WITH_INCIDENTS)).values():
        for chip in re.findall(r'<span class="chip".*?</span>', part):
            assert "<use href=" in chip
            assert re.search(r"</svg>(Met|At risk|Missed|Unknown|Not paged|Note)</span>", chip)


def test_facts_without_any_content_make_a_page() -> None:
    empty = dataclasses.replace(
        WELL, objectives=(), history=(), models=(), regions=(), requests=0, tokens=0
    )
    words = shown_text(whole(empty))
    assert "No policy sets an objective." in words
    assert "No policy sets an availability objective." in words
    assert "No requests in the last 5 minutes." in words


def test_without_facts_the_page_says_why_and_shows_no_number() -> None:
    problem = "Redis at 127.0.0.1:6379 does not answer"
    for name, part in fragments(state(None, problem)).items():
        if name == "details":  # not on the page unless there are some
            assert part == ""
            continue
        assert (problem if name in ("status", "incidents") else "Not known now.") in part, name
        assert "data-value" not in part


def test_a_trouble_is_known_again_while_only_its_numbers_change() -> None:
    def incidents(*words: Any) -> list[str]:
        return [one.key for one in with_keys([Incident("page", one, None, "A") for one in words])]

    assert incidents("eu fails 41.2 %, 1,204 of 2,951") == incidents("eu fails 9 %, 77 of 3,000")
    assert incidents("eu fails 41 %") != incidents("us fails 41 %")
    ages = ("59 s", "1 min", "3 min 20 s", "2 h")
    assert len({key for age in ages for key in incidents(f"no sign of life for {age}.")}) == 1
    first, second = incidents("model 4 fails", "model 5 fails")
    assert first != second


def test_the_page_has_no_script_or_style_of_its_own_and_asks_nobody_else() -> None:
    outline = parsed(whole(WITH_INCIDENTS))
    assert not [1 for tag, _ in outline.elements if tag == "style"]
    names = {name for _, attrs in outline.elements for name in attrs}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    for tag, name, value in outline.values:
        if name in ("href", "src"):
            assert not re.match(r"[a-z]+:|/", value), f"{tag} leads to {value}"


def test_parts_can_be_exchanged_one_by_one() -> None:
    markup = whole(WITH_INCIDENTS)
    for name, part in fragments(state(WITH_INCIDENTS)).items():
        assert re.search(rf'<section id="{name}"[^>]*>{re.escape(part)}</section>', markup)
    assert set(fragments(state(WELL))) == set(FRAGMENTS)
    assert re.fullmatch("[0-9a-f]{16}", build())


def test_headings_go_down_one_level_at_a_time() -> None:
    levels = [
        int(tag[1]) for tag, _ in parsed(whole(WITH_INCIDENTS)).elements if re.match(r"h\d", tag)
    ]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_id_is_there_once_and_every_reference_leads_to_one() -> None:
    outline = parsed(whole(WITH_INCIDENTS))
    ids = [value for _, name, value in outline.values if name == "id"]
    assert len(ids) == len(set(ids))
    used = [value for _, name, value in outline.values if name == "aria-labelledby"]
    used += [value[1:] for _, name, value in outline.values if name == "href" and value[0] == "#"]
    assert set(used) <= set(ids)


def test_every_table_has_a_caption_and_heads_with_a_scope() -> None:
    markup = whole(WITH_INCIDENTS)
    tables = re.findall(r"<table.*?</table>", markup, re.DOTALL)
    assert len(tables) == 5
    for table in tables:
        assert "<caption" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))


def test_the_json_holds_all_facts_and_says_why_there_are_none() -> None:
    found = json.loads(live_json(state(WITH_INCIDENTS)))
    assert found["problem"] is None
    assert found["facts"]["ttft_p95_s"]["value"] == 0.2897
    assert found["facts"]["models"][0]["name"] == "aurora-4-medium"
    assert json.loads(live_json(state(None, "why"))) == {"problem": "why", "facts": None}


# -- colours -------------------------------------------------------------------------------------

TEXT, GRAPHICS = 4.5, 3.0  # WCAG 2.2, AA
PAIRS = [
    *[(text, "ground", TEXT) for text in ("text", "muted", "link")],
    *[(text, "surface", TEXT) for text in ("text", "muted", "link")],
    *[(tone, "surface", TEXT) for tone in ("ok", "at_risk", "breached", "unknown")],
    *[(tone, f"{tone}-tint", TEXT) for tone in ("ok", "at_risk", "breached", "unknown")],
    *[("text", f"{tone}-tint", TEXT) for tone in ("ok", "at_risk", "breached", "unknown")],
    *[("muted", f"{tone}-tint", TEXT) for tone in ("unknown",)],
    *[(tone, "surface", TEXT) for tone in ("catching", "empty", "partial")],
    *[(tone, f"{tone}-tint", TEXT) for tone in ("catching", "empty", "partial")],
    *[("text", f"{tone}-tint", TEXT) for tone in ("catching", "empty", "partial")],
    *[("ink", tone, TEXT) for tone in ("ok", "at_risk", "breached")],
    ("edge", "surface", GRAPHICS),
    ("focus", "surface", GRAPHICS),
    ("focus", "ground", GRAPHICS),
]  # fmt: skip


def schemes() -> dict[str, dict[str, str]]:
    css = (STATIC / "board.css").read_text()
    light, dark, printed = (
        dict(re.findall(r"--([a-z_-]+): (#[0-9a-f]{3,6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **printed}}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    colours = schemes()[scheme]
    for front, back, least in PAIRS:
        if scheme == "print" and front in ("link", "edge", "focus"):
            continue
        light, dark = sorted(map(luminance, (colours[front], colours[back])), reverse=True)
        found = (light + 0.05) / (dark + 0.05)
        assert found >= least, f"{front} on {back}: {found:.2f}"


def phases(facts: LiveFacts | None, nothing_counted: bool = False) -> list[list[str]]:
    """The phases of the data on the banner, then on the line below it."""
    problem = None if facts else "Redis does not answer"
    state = LiveState(facts, problem, 1.0, nothing_counted=nothing_counted)
    part = fragments(state)["status"]
    tags = re.findall('<div class="(?:hero|fresh)"[^>]*>', part)
    return [re.findall('data-phase="(.*?)"', tag) for tag in tags]


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_each_state_of_the_data_has_a_colour_of_its_own(scheme: str) -> None:
    tones = ("ok", "at_risk", "breached", "unknown", "catching", "empty", "partial")
    assert len({schemes()[scheme][tone] for tone in tones}) == len(tones)


def test_the_banner_has_the_colour_of_what_the_data_is_like() -> None:
    def fresh(**changes: Any) -> LiveFacts:
        return replace(WELL, freshness=replace(WELL.freshness, **changes))

    assert phases(WELL) == [[], []]
    catching = fresh(catching_up=True, state="breached")
    assert phases(catching) == [["catching"], ["catching"]]
    # Numbers of a part of the traffic do not change the state of the service.
    assert phases(fresh(complete=False)) == [[], ["partial"]]
    assert phases(fresh(rebuilt=True)) == [[], ["partial"]]
    assert phases(fresh(complete=False, state="breached")) == [[], []]
    assert phases(replace(WELL, requests=0, state="unknown")) == [["empty"], ["empty"]]
    assert phases(None, nothing_counted=True) == [["empty"]]
    assert phases(None) == [[]]


def test_no_colour_stands_outside_the_variables() -> None:
    css = (STATIC / "board.css").read_text()
    rules = re.sub(r":root \{.*?\}", "", css, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl", rules)


def test_the_script_stays_small() -> None:
    assert len((STATIC / "board.js").read_text().splitlines()) < 200


def test_a_trouble_leads_to_its_runbook_where_people_read_them() -> None:
    there = LiveState(WITH_INCIDENTS, None, 1.0, 'https://git.example/"runbooks"/')
    links = re.findall(r'<a href="([^"]*)"', fragments(there)["incidents"])
    names = [one.runbook for one in WITH_INCIDENTS.incidents if one.runbook]
    assert names
    assert [html.unescape(link) for link in links] == [
        f'https://git.example/"runbooks"/{name}.md' for name in names
    ]
    own = re.findall(r'<a href="([^"]*)"', fragments(state(WITH_INCIDENTS))["incidents"])
    assert own == [f"runbooks/{name}" for name in names]


@pytest.mark.parametrize(
    ("complete", "rebuilt", "word"),
    [(True, False, "complete"), (True, True, "rebuilt"), (False, True, "incomplete")],
)
def test_the_window_of_rebuilt_data_is_not_called_complete(
    complete: bool, rebuilt: bool, word: str
) -> None:
    fresh = dataclasses.replace(WELL.freshness, complete=complete, rebuilt=rebuilt)
    part = fragments(state(dataclasses.replace(WELL, freshness=fresh)))["status"]
    assert f"<dd>{word}</dd>" in part


def test_the_requests_of_the_window_and_of_availability_have_one_name_each() -> None:
    part = shown_text(fragments(state(WELL))["status"])
    assert (
        "15,234 requests (availability counts 15,200: with probes, without client errors)" in part
    )
