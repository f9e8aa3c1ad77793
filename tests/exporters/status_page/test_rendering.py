"""The facts of the status page as HTML, RSS and JSON."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from exporters.status_page.api import DOCUMENTS, document
from exporters.status_page.facts import StatusFacts, status_facts
from exporters.status_page.feed import rss
from exporters.status_page.html import content_security_policy, status_html
from exporters.status_page.incidents import IncidentBook
from exporters.status_page.uptime import DAYS, StatusDay
from slo.engine.maintenance import Maintenance
from tests.support.html_pages import Page
from tests.support.status_pages import NOW_S, PAGE, facts_of, incident, status_page

DAY_S = 86_400


def days(*ratios: tuple[int, int]) -> tuple[StatusDay, ...]:
    """Return days that end today, from (good, eligible)."""
    begin = NOW_S - (len(ratios) - 1) * DAY_S
    return tuple(StatusDay(begin + at * DAY_S, *ratio) for at, ratio in enumerate(ratios))


def text_of(facts: StatusFacts) -> str:
    return Page(status_html(facts, "status/")).text


def test_without_incidents_all_is_operational(tmp_path: Path) -> None:
    facts = facts_of(status_page(tmp_path))
    assert "All Systems Operational" in text_of(facts)
    assert "No incident in the last 15 days" in text_of(facts)
    status = document(facts, "status.json")["status"]
    assert status == {"indicator": "none", "description": "All Systems Operational"}


def test_an_open_incident_colours_its_components_and_the_banner(tmp_path: Path) -> None:
    facts = facts_of(status_page(tmp_path), incident("investigating", "identified"))
    summary = document(facts, "summary.json")
    states = {part["name"]: part["status"] for part in summary["components"]}
    assert states == {
        "Chat API": "partial_outage",
        "Europe": "operational",
        "Everything": "operational",
    }
    assert summary["status"]["indicator"] == "major"
    assert "Partial System Outage" in text_of(facts)
    (shown,) = summary["incidents"]
    assert [update["status"] for update in shown["incident_updates"]] == [
        "identified",
        "investigating",
    ]
    assert shown["started_at"] == "2026-11-20T22:00:00Z"
    assert shown["resolved_at"] is None


def test_a_resolved_incident_is_history(tmp_path: Path) -> None:
    facts = facts_of(status_page(tmp_path), incident("investigating", "monitoring", "resolved"))
    assert document(facts, "incidents/unresolved.json")["incidents"] == []
    (shown,) = document(facts, "incidents.json")["incidents"]
    assert shown["resolved_at"] == "2026-11-20T22:20:00Z"
    assert shown["monitoring_at"] == "2026-11-20T22:10:00Z"
    assert "All Systems Operational" in text_of(facts)
    assert "Errors in chat" in text_of(facts)


@pytest.mark.parametrize("render", ["html", "rss", *DOCUMENTS])
def test_no_output_has_the_author_of_an_update(tmp_path: Path, render: str) -> None:
    facts = facts_of(status_page(tmp_path), incident("investigating"))
    texts = {"html": lambda: status_html(facts, ""), "rss": lambda: rss(facts).decode()}
    text = texts.get(render, lambda: json.dumps(document(facts, render)))()
    assert "jo the operator" not in text
    assert "Example AI status" in text


def test_percentages_are_shown_only_if_the_file_allows(tmp_path: Path) -> None:
    by_slug = {"chat-api": days((100, 100), (90, 100), (98, 100))}
    hidden = facts_of(status_page(tmp_path), days=by_slug)
    assert "%" not in Page(status_html(hidden, "")).text
    assert "96 %" not in status_html(hidden, "")
    shown = facts_of(status_page(tmp_path, PAGE + "show_uptime: true\n"), days=by_slug)
    assert "96 % available" in Page(status_html(shown, "")).text


def test_the_bar_of_a_day_has_the_colour_of_its_availability(tmp_path: Path) -> None:
    page = status_page(tmp_path)
    colours = [day.colour(page) for day in days((99, 100), (98, 100), (94, 100), (0, 0))]
    assert colours == ["operational", "degraded", "outage", "no_data"]
    facts = facts_of(page, days={"chat-api": days((99, 100), (98, 100), (94, 100), (0, 0))})
    assert (
        f"last {DAYS} days: 1 day no requests, 1 day operational, 1 day degraded and 1 day outage"
        in status_html(facts, "")
    )


def test_markup_in_a_message_is_text(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script> & \x07 bell"
    facts = facts_of(status_page(tmp_path), incident("investigating", name=nasty, body=nasty))
    assert "<script" not in status_html(facts, "")
    item = fromstring(rss(facts)).find("channel/item/title")
    assert item is not None
    assert item.text == "<script>alert(1)</script> &  bell"


def test_maintenance_of_all_policies_is_announced_and_that_of_one_contract_is_not(
    tmp_path: Path,
) -> None:
    window = Maintenance("m-1", NOW_S + 3_600, NOW_S + 7_200, "jo", "New disks.", NOW_S - 60)
    secret = replace(window, id="m-2", policy="acme-contract", reason="Acme only.")
    far = replace(window, id="m-3", from_s=NOW_S + 30 * DAY_S, to_s=NOW_S + 30 * DAY_S + 60)
    page = status_page(tmp_path)
    facts = status_facts(page, {}, IncidentBook([]), [secret, window, far], NOW_S)
    (planned,) = document(facts, "scheduled-maintenances/upcoming.json")["scheduled_maintenances"]
    assert planned["scheduled_for"] == "2026-11-21T01:00:00Z"
    assert "New disks." in text_of(facts)
    assert "Acme only." not in text_of(facts)
    during = status_facts(page, {}, IncidentBook([]), [window], NOW_S + 3_600)
    assert during.description == "Service Under Maintenance"
    assert {part.status for part in during.components} == {"under_maintenance"}
    assert document(during, "scheduled-maintenances/active.json")["scheduled_maintenances"]


def test_the_policy_allows_the_style_sheet_of_the_page_and_no_script(tmp_path: Path) -> None:
    assert "script" not in content_security_policy()
    assert "default-src 'none'" in content_security_policy()
    assert "<script" not in status_html(facts_of(status_page(tmp_path)), "")
