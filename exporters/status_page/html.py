"""The status page as HTML: no script, one style sheet, readable without colours.

Pure. The template engine escapes every text.
"""

from collections import Counter
from functools import cache
from importlib.resources import files

from jinja2 import Environment

from exporters.formatting import counted, enumeration, instant, minute, percent
from exporters.status_page.facts import ComponentFacts, StatusFacts
from exporters.status_page.incidents import PublicIncident
from exporters.status_page.uptime import DAYS, DayColour, StatusDay
from exporters.templates import style_source, templates

HISTORY_S = 15 * 86_400  # resolved incidents stay on the page so long; the feed has them all
STATUS_WORDS = {
    "operational": "Operational",
    "degraded_performance": "Degraded performance",
    "partial_outage": "Partial outage",
    "major_outage": "Major outage",
    "under_maintenance": "Under maintenance",
}
DAY_WORDS: dict[DayColour, str] = {
    "no_data": "no requests",
    "operational": "operational",
    "degraded": "degraded",
    "outage": "outage",
}


def status_html(facts: StatusFacts, base: str) -> str:
    """Return the page. `base`: of its addresses, relative: `status/`, or empty."""
    recent = facts.book.since(facts.now_s - HISTORY_S)
    return (
        _templates()
        .get_template("status.html")
        .render(
            base=base,
            facts=facts,
            css=style(),
            past=[incident for incident in recent if incident.resolved_s is not None],
        )
    )


def day_title(facts: StatusFacts, day: StatusDay) -> str:
    """Return a day's bar in words: `2026-11-22: degraded`, with its percentage if it is public."""
    words = f"{minute(day.start_s)[:10]}: {DAY_WORDS[day.colour(facts.page)]}"
    if facts.page.show_uptime and day.ratio is not None:
        return f"{words}, {percent(day.ratio)}"
    return words


def days_summary(facts: StatusFacts, part: ComponentFacts) -> str:
    """Return all bars of a component in one sentence, for readers who do not see them."""
    # Bars differ by colour alone, so their words are also in the text.
    colours = Counter(day.colour(facts.page) for day in part.days)
    named = [
        f"{counted(colours[colour], 'day')} {DAY_WORDS[colour]}"
        for colour in DAY_WORDS
        if colours[colour]
    ]
    return f"last {DAYS} days: {enumeration(named)}" if named else f"last {DAYS} days: not known"


def component_names(facts: StatusFacts, incident: PublicIncident) -> str:
    """Return the names of the components of an incident."""
    return enumeration(
        [
            part.component.name
            for part in facts.components
            if part.component.slug in incident.components
        ]
    )


@cache
def style() -> str:
    """Return the style sheet."""
    sheet = files("exporters.status_page") / "static" / "status.css"
    return sheet.read_text(encoding="utf-8").strip()


@cache
def content_security_policy() -> str:
    """Return the policy: the page may use its one style sheet, and no script."""
    return (
        f"default-src 'none'; style-src {style_source(style())}; base-uri 'none'; "
        "form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _templates() -> Environment:
    environment = templates("exporters.status_page")
    environment.globals.update(
        component_names=component_names,
        day_title=day_title,
        days_summary=days_summary,
        instant=instant,
        minute=minute,
        percent=percent,
        status_words=STATUS_WORDS,
    )
    return environment
