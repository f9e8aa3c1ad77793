"""A status page's file, its incidents and its facts."""

from pathlib import Path

from exporters.status_page.components import StatusPage, load_status_page
from exporters.status_page.facts import StatusFacts, status_facts
from exporters.status_page.incidents import (
    Impact,
    IncidentBook,
    IncidentUpdate,
    PublicIncident,
    Stage,
)
from exporters.status_page.uptime import StatusDay

PAGE = """
title: Example AI status
url: https://status.example.com/
components:
  - name: Chat API
    about: Answers of all chat models
    scope: {model: [opus, sonnet]}
  - name: Europe
    scope: {region: [eu-west-1]}
  - name: Everything
"""
NOW_S = 1_795_219_200  # 2026-11-21 00:00 UTC


def page_file(directory: Path, text: str = PAGE) -> Path:
    path = directory / "status.yaml"
    path.write_text(text)
    return path


def status_page(directory: Path, text: str = PAGE) -> StatusPage:
    return load_status_page(page_file(directory, text))


def incident(
    *stages: Stage,
    number: int = 1,
    impact: Impact = "major",
    components: tuple[str, ...] = ("chat-api",),
    begin_s: int = NOW_S - 7_200,
    name: str = "Errors in chat",
    body: str = "We look into it.",
) -> PublicIncident:
    """Return an incident that reached some stages, ten minutes apart."""
    updates = tuple(
        IncidentUpdate(f"u{number}-{at}", begin_s + at * 600, stage, body, "jo the operator")
        for at, stage in enumerate(stages or ("investigating",))
    )
    return PublicIncident(f"i-{number}", name, impact, components, updates)


def facts_of(
    page: StatusPage,
    *incidents: PublicIncident,
    days: dict[str, tuple[StatusDay, ...]] | None = None,
) -> StatusFacts:
    return status_facts(page, days or {}, IncidentBook(incidents), [], NOW_S)
