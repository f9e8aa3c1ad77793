"""The status page of a running exporter, with incidents written by the command."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporters.status_page.cache import StatusCache
from exporters.status_page.routes import status_routes
from streams.config.settings import Settings
from streams.query.steps import DAY_S
from tests.support.command import assert_one_line, run
from tests.support.exporter_state import StateWriter, event, settings_for
from tests.support.servers import RedisServer
from tests.support.status_pages import page_file

TODAY_S = 1_795_219_200


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    made = settings_for(redis_server.url, status_page=page_file(tmp_path))
    return made.model_copy(
        update={"kafka": made.kafka.model_copy(update={"group": f"status-{tmp_path.name}"})}
    )


def request(settings: Settings, path: str, root: str = "/status") -> tuple[int, str]:
    """Read the page's data at TODAY_S and return the answer to one request."""

    async def ask() -> tuple[int, str]:
        page = settings.exporter.status_page
        assert page is not None
        cache = StatusCache(settings, page)
        await cache.read(TODAY_S + 3_600)
        app = web.Application()
        app.add_routes(status_routes(cache, root))
        async with TestClient(TestServer(app)) as client:
            answer = await client.get(path)
            return answer.status, await answer.text()

    return asyncio.run(ask())


def document(settings: Settings, name: str) -> Any:
    status, text = request(settings, f"/status/api/v2/{name}")
    assert status == 200
    return json.loads(text)


def open_incident(settings: Settings, *options: str) -> str:
    done = run(
        *("incident", "open", "Slow answers", "--impact", "minor", "--component", "Europe"),
        *("--message", "Answers are slow.", "--author", "jo", *options),
        settings=settings,
    )
    assert done.exit_code == 0, done.output
    return done.stdout.partition(":")[0]


def test_an_incident_is_opened_updated_and_closed_by_command(settings: Settings) -> None:
    incident_id = open_incident(settings)
    (shown,) = document(settings, "incidents/unresolved.json")["incidents"]
    assert (shown["id"], shown["impact"], shown["status"]) == (
        incident_id,
        "minor",
        "investigating",
    )
    update = ("incident", "update", incident_id, "--status", "identified", "--message", "A disk.")
    assert run(*update, "--impact", "major", settings=settings).exit_code == 0
    assert document(settings, "status.json")["status"]["indicator"] == "major"
    done = run("incident", "close", incident_id, "--message", "All well again.", settings=settings)
    assert done.exit_code == 0, done.output
    (shown,) = document(settings, "incidents.json")["incidents"]
    assert [update["body"] for update in shown["incident_updates"]] == [
        "All well again.",
        "A disk.",
        "Answers are slow.",
    ]
    assert document(settings, "status.json")["status"]["indicator"] == "none"
    listed = run("incident", "list", settings=settings).stdout
    assert f"{incident_id}: Slow answers; major; europe; resolved since" in listed


def test_a_closed_or_unknown_incident_takes_no_update(settings: Settings) -> None:
    incident_id = open_incident(settings)
    close = ("incident", "close", incident_id, "--message", "Done.")
    assert run(*close, settings=settings).exit_code == 0
    assert_one_line(run(*close, settings=settings), incident_id, "closed at", "open another")
    unknown = run("incident", "close", "i-none", "--message", "Done.", settings=settings)
    assert_one_line(unknown, "i-none: no such incident")


def test_a_component_that_is_not_on_the_page_is_refused(settings: Settings) -> None:
    done = run(
        *("incident", "open", "X", "--impact", "minor", "--component", "Billing"),
        *("--message", "Y"),
        settings=settings,
    )
    assert_one_line(done, "'Billing'", "Chat API, Europe and Everything")


def test_the_bars_equal_a_recount_of_the_events(settings: Settings) -> None:
    """Two days of events of two models and two regions; today's are still in fine slices."""
    events = [
        event(
            TODAY_S + offset_s,
            model=("opus", "haiku")[number % 2],
            region=("eu-west-1", "us-east-1")[number % 3 == 0],
            outcome="server_error" if number % 5 == 0 else "success",
        )
        for offset_s in (-2 * DAY_S + 60, 30)
        for number in range(60)
    ]

    async def days_of() -> dict[str, list[tuple[int, int, int]]]:
        writer = StateWriter(settings)
        await writer.write(0, events, TODAY_S + 60)
        await writer.close()
        page = settings.exporter.status_page
        assert page is not None
        cache = StatusCache(settings, page)
        await cache.read(TODAY_S + 60)
        facts = cache.facts()
        assert facts is not None
        return {
            part.component.slug: [(day.start_s, day.good, day.eligible) for day in part.days]
            for part in facts.components
        }

    found = asyncio.run(days_of())
    for slug, key, names in (
        ("chat-api", "model", ("opus",)),
        ("europe", "region", ("eu-west-1",)),
        ("everything", "model", ("opus", "haiku")),
    ):
        mine = [one for one in events if one[key] in names]
        expected = {
            start_s: (
                sum(one["outcome"] == "success" for one in mine if _day(one) == start_s),
                sum(_day(one) == start_s for one in mine),
            )
            for start_s in (TODAY_S - 2 * DAY_S, TODAY_S)
        }
        assert {start: (good, of) for start, good, of in found[slug] if of} == expected
        assert len(found[slug]) == 90


def _day(event: dict[str, Any]) -> int:
    return int(event["ended_at"]) // 1_000 // DAY_S * DAY_S


def test_the_page_has_no_history_before_the_first_event(settings: Settings) -> None:
    status, text = request(settings, "/status")
    assert status == 200
    assert "The history of the components is not read yet, or cannot be read now" in text


def test_on_a_port_of_its_own_the_page_is_at_the_root(settings: Settings) -> None:
    for path in ("/", "/history.rss", "/api/v2/summary.json"):
        assert request(settings, path, root="")[0] == 200
    assert request(settings, "/metrics", root="")[0] == 404


def test_links_are_relative_to_the_page(settings: Settings) -> None:
    assert 'href="status/history.rss"' in request(settings, "/status")[1]
    assert 'href="history.rss"' in request(settings, "/", root="")[1]
