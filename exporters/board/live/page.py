"""The live board as HTML: one fragment for each part of the page, and the page around them.

Pure: the time is in the facts. All text goes through Jinja's escaping; this module writes no
markup. An open page replaces a fragment when it changes (board.js).
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import Environment
from markupsafe import Markup

from exporters import formatting as fmt
from exporters.board.facts import (
    BUDGET_NEARLY_GONE,
    HistoryStrip,
    Incident,
    LiveFacts,
    LiveState,
    ObjectiveRow,
    State,
    TileValue,
)
from exporters.board.incidents.notifications import (
    notification_tone,
    notification_words,
    past_notification,
    since_text,
)
from exporters.board.sparkline import Sparkline, sparkline
from exporters.place_links import place_address
from exporters.templates import templates
from exporters.windows.measured import is_weak

FRAGMENTS = ("status", "incidents", "tiles", "objectives", "uptime", "models", "regions", "details")

# (word, what it means)
STATE_WORDS: Mapping[State, tuple[str, str]] = {
    "ok": ("Met", "the target is met"),
    "at_risk": ("At risk", "not missed yet, but near the target or the end of the budget"),
    "breached": ("Missed", "the target is missed"),
    "unknown": ("Unknown", "there is no value, or no target"),
}
OVERALL_WORDS: Mapping[State, str] = {
    "ok": "Healthy",
    "at_risk": "At risk",
    "breached": "Unhealthy",
    "unknown": "Unknown",
}
CATCHING_UP = "Catching up"
BURN_WINDOWS = ("5m", "1h", "6h", "3d")  # those that the burn alerts look at
# With its unit, as ages change theirs: `59 s`, `1 min`, `1 min 1 s`.
_NUMBER = re.compile(r"\d[\d.,]*(?: (?:ms|s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?)?")
BUDGET_WIDTH = 100  # of the bar, in units of its drawing


@dataclass(frozen=True, slots=True)
class Tile:
    """One value of the fleet, formatted."""

    key: str
    label: str
    meaning: str
    value: float | None
    shown: str
    state: State
    target: str | None
    samples: int
    samples_of: str
    last_minute: str  # formatted; empty if it says no more than the value
    known: str  # `known for 61.3 % of input tokens`; empty if it is known for all
    weak: bool  # known for too small a share to be judged
    spark: Sparkline


@dataclass(frozen=True, slots=True)
class KeyedIncident:
    """An incident with a key that stays while its numbers change."""

    key: str
    incident: Incident


def fragments(state: LiveState) -> dict[str, str]:
    """Return the HTML of every part of the page, by the id of its section."""
    facts = state.facts
    shown: dict[str, object] = {
        "facts": facts,
        "problem": state.problem,
        "starting": state.starting,
        "phase": data_phase(state),
        "verdict": verdict(state),
        "aged": False,
        "base": "",
        "runbooks_url": (state.runbooks_url or "").rstrip("/"),
    }
    if facts is not None:
        shown |= {
            "aged": facts.freshness.state == "breached",
            "tiles": tiles(facts),
            "incidents": with_keys(facts.incidents),
        }
    return {name: _ENVIRONMENT.get_template(f"{name}.html").render(shown) for name in FRAGMENTS}


def page(parts: Mapping[str, str], state: LiveState, assets: Mapping[str, str], build: str) -> str:
    """Return the whole page.

    `assets`: address of each static file, relative to the page. `build`: digest of all files of
    the page, so that an open page notices another version.
    """
    return _ENVIRONMENT.get_template("board.html").render(
        parts={name: Markup(part) for name, part in parts.items()},  # noqa: S704 (ours, escaped)
        state=state,
        title=title(state),
        assets=assets,
        build=build,
        base="",
    )


def title(state: LiveState) -> str:
    """Return the title of the browser's tab; the state comes first, as tabs are narrow."""
    return f"{verdict(state)} · Tokenpulse"


def verdict(state: LiveState) -> str:
    """Return the state of the service in one or two words; each has a colour of its own."""
    facts = state.facts
    if facts is not None and facts.state != "unknown":
        return OVERALL_WORDS[facts.state]
    match data_phase(state):
        case "catching":
            return CATCHING_UP
        case "empty" if facts is None:
            return "Starting" if state.starting else "Nothing counted"
        case "empty":
            return "Idle"
        case _:
            return OVERALL_WORDS["unknown"]


def short_headline(facts: LiveFacts) -> str:
    """Return the headline without the words of the verdict beside it."""
    return fmt.capitalize(facts.headline.removeprefix(f"{CATCHING_UP}: "))


def with_keys(incidents: Sequence[Incident]) -> list[KeyedIncident]:
    """Return incidents with keys that stay while only the numbers in their words change."""
    seen: Counter[str] = Counter()
    found = []
    for incident in incidents:
        # An incident keeps its place and focus on the page while its numbers change.
        wordless = _NUMBER.sub("#", incident.words)
        key = incident.key or f"{incident.severity}|{incident.alert or ''}|{wordless}"
        seen[key] += 1
        found.append(KeyedIncident(f"{key}|{seen[key]}", incident))
    return found


def tiles(facts: LiveFacts) -> list[Tile]:
    """Return the values of the fleet in the order of the page."""
    ttft, tpot = facts.ttft_p95_s, facts.tpot_p95_s
    cache, available = facts.cache_hit_ratio, facts.availability_ratio
    return [
        _tile(
            "ttft",
            "P95 TTFT",
            "Time to first token: 95 % of the streams began faster",
            ttft,
            lambda value: fmt.latency(value, ttft.target),
            "under",
            "requests",
            "streamed requests",
        ),
        _tile(
            "tpot",
            "P95 TPOT",
            "Time per output token after the first: 95 % of the streams were faster",
            tpot,
            lambda value: fmt.latency(value, tpot.target),
            "under",
            "requests",
        ),
        _tile(
            "cache",
            "Cache hit rate",
            "Input tokens read from the prompt cache, of those whose cached part is known",
            cache,
            lambda value: fmt.percent(value, cache.target),
            "at least",
            "input tokens",
            "input tokens",
        ),
        _tile(
            "availability",
            "Availability",
            "Requests that succeeded, of those that count",
            available,
            lambda value: fmt.percent(value, available.target),
            "at least",
            "requests that count",
        ),
        _tile(
            "tokens",
            "Tokens per second",
            "Input and output tokens processed",
            facts.tokens_per_s,
            fmt.tokens,
            "at least",
            "requests",
            "answered requests",
        ),
    ]


def _tile(
    key: str,
    label: str,
    meaning: str,
    number: TileValue,
    shown: Callable[[float | None], str],
    side: str,
    samples_of: str,
    known_of: str = "",
) -> Tile:
    # A target is written as it is, not kept off itself.
    target = None if number.target is None else f"{side} {_target_text(key, number.target)}"
    return Tile(
        key=key,
        label=label,
        meaning=meaning,
        value=number.value,
        shown=shown(number.value),
        state=number.state,
        target=target,
        samples=number.samples,
        samples_of=samples_of,
        last_minute="" if number.last_minute is None else shown(number.last_minute),
        known=fmt.known_for(number.known_ratio, known_of),
        # The other measures are judged by their number of samples.
        weak=key == "cache" and is_weak(number.known_ratio),
        spark=sparkline(number.spark, number.target, shown),
    )


def _target_text(key: str, target: float) -> str:
    if key in ("ttft", "tpot"):
        return fmt.exact_latency(target)
    return fmt.exact_percent(target) if key in ("cache", "availability") else fmt.tokens(target)


Phase = Literal["catching", "empty", "partial", ""]


def data_phase(state: LiveState) -> Phase:
    """Return the phase of the data, which has its own colour; "" for current, complete data."""
    facts = state.facts
    if facts is None:
        return "empty" if state.nothing_counted or state.starting else ""
    fresh = facts.freshness
    if fresh.catching_up:
        return "catching"
    # Old numbers are worse than missing ones, and keep their colour.
    if fresh.state == "breached":
        return ""
    if not facts.requests and facts.state == "unknown":
        return "empty"
    return "partial" if fresh.rebuilt or not fresh.complete else ""


def budget_state(objective: ObjectiveRow) -> State:
    """Return the state of a budget bar: how much is left, whatever the burn rates are."""
    left = objective.budget_left_ratio
    if left is None:
        return "unknown"
    return "breached" if left <= 0 else "at_risk" if left < BUDGET_NEARLY_GONE else "ok"


def burn_columns(objective: ObjectiveRow) -> tuple[tuple[str, float], ...]:
    """Return the burn rates that have room, shortest window first."""
    # All windows fit; else those of the alerts.
    if len(objective.burn) <= len(BURN_WINDOWS):
        return objective.burn
    return tuple((window, rate) for window, rate in objective.burn if window in BURN_WINDOWS)


def budget_width(left_ratio: float) -> float:
    """Return the length of the bar, in units of its drawing."""
    return round(BUDGET_WIDTH * min(1.0, max(0.0, left_ratio)), 2)


def strip_summary(strip: HistoryStrip) -> str:
    """Return a strip in one sentence: `30 days: 27 met, 1 at risk, 2 missed`."""
    counted = Counter(day.state for day in strip.days)
    parts = [f"{counted[s]} {STATE_WORDS[s][0].lower()}" for s in STATE_WORDS if counted[s]]
    days = len(strip.days)
    return f"{days} day{'' if days == 1 else 's'}" + (": " + ", ".join(parts) if parts else "")


# What the board's templates use; other pages that include them need it too.
TEMPLATE_GLOBALS: Mapping[str, object] = {
    "formatting": fmt,
    "STATE_WORDS": STATE_WORDS,
    "OVERALL_WORDS": OVERALL_WORDS,
    "short_headline": short_headline,
    "budget_state": budget_state,
    "budget_width": budget_width,
    "burn_columns": burn_columns,
    "strip_summary": strip_summary,
    "is_weak": is_weak,
    "place_address": place_address,
    "notification_tone": notification_tone,
    "notification_words": notification_words,
    "past_notification": past_notification,
    "since_text": since_text,
}


def _environment() -> Environment:
    environment = templates("exporters.board")
    environment.globals.update(TEMPLATE_GLOBALS)
    return environment


_ENVIRONMENT = _environment()
