"""Colours of the live board: contrast, one for each state, and none outside the variables."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import exporters.board.facts as facts_module
from exporters.board.facts import (
    LiveFacts,
    LiveState,
)
from exporters.board.live.page import fragments, page, title
from tests.support.board_samples import WELL

STATIC = Path(facts_module.__file__).parent / "static"

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
    assert "<dd>not read yet</dd>" in fragments(LiveState(catching, None, 1.0))["status"]
    assert phases(catching) == [["catching"], ["catching"]]
    # Numbers of a part of the traffic do not change the state of the service.
    assert phases(fresh(complete=False)) == [[], ["partial"]]
    assert phases(fresh(rebuilt=True)) == [[], ["partial"]]
    assert phases(fresh(complete=False, state="breached")) == [[], []]
    assert phases(replace(WELL, requests=0, state="unknown")) == [["empty"], ["empty"]]
    assert phases(None, nothing_counted=True) == [["empty"]]
    assert phases(None) == [[]]
    starting = LiveState(None, "no state of group 'a'", 1.0, nothing_counted=True, starting=True)
    parts = fragments(starting)
    assert ">Starting</span>" in parts["status"]
    # What is usual in the first seconds is no error.
    assert "no state of group" not in parts["status"] + parts["incidents"]
    assert 'data-severity="page"' not in parts["incidents"]


@pytest.mark.parametrize(
    ("headline", "changes", "told"),
    [
        (
            "Catching up: partition 0 is 6 min behind.",
            {"catching_up": True},
            ("Catching up", "Partition 0 is 6 min behind."),
        ),
        (
            "These numbers are old: no worker runs.",
            {"state": "breached"},
            ("Unknown", "These numbers are old: no worker runs."),
        ),
    ],
)
def test_each_colour_of_the_banner_has_a_word_that_the_sentence_does_not_repeat(
    headline: str, changes: dict[str, Any], told: tuple[str, str]
) -> None:
    freshness = replace(WELL.freshness, **changes)
    facts = replace(WELL, state="unknown", headline=headline, freshness=freshness)
    assert _banner(LiveState(facts, None, 1.0)) == told


def test_a_board_without_requests_is_idle_and_one_without_events_says_so() -> None:
    idle = LiveState(replace(WELL, state="unknown", requests=0), None, 1.0)
    nothing = LiveState(None, "no state", 1.0, nothing_counted=True)
    unread = LiveState(None, "Redis does not answer", 1.0)
    verdicts = [_banner(state)[0] for state in (idle, nothing, unread)]
    assert verdicts == ["Idle", "Nothing counted", "Unknown"]
    # The glossary explains each of them.
    board = page(fragments(idle), idle, defaultdict(str), "")
    glossary = board.partition('id="glossary"')[2]
    for word in (*verdicts, "Catching up", "Starting"):
        assert re.search(rf"<dt>[^<]*\b{word}\b", glossary), word
    assert title(idle) == "Idle · Tokenpulse"


def _banner(state: LiveState) -> tuple[str, str]:
    """Return the verdict and the sentence of the banner."""
    part = fragments(state)["status"].replace("\N{NO-BREAK SPACE}", " ")
    verdict = re.search('id="verdict">([^<]*)<', part)
    headline = re.search('id="headline">([^<]*)<', part)
    assert verdict is not None
    assert headline is not None
    return verdict[1], headline[1]


def test_no_colour_stands_outside_the_variables() -> None:
    css = (STATIC / "board.css").read_text()
    rules = re.sub(r":root \{.*?\}", "", css, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl", rules)
