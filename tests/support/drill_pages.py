"""Pages of single places over a state that a test writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporters.board.facts import LiveState
from exporters.drill.history import HistoryCache
from exporters.drill.routes import DrillSource, drill_routes
from streams.config.settings import Settings
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, in_world
from tests.support.two_clocks import right_clock

Events = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Answered:
    """One answer of the exporter."""

    status: int
    text: str
    headers: Mapping[str, str]


def answers(
    settings: Settings,
    events: Mapping[int, Events],
    paths: Sequence[str],
    now_s: int = NOW_S,
    names: Mapping[str, str] | None = None,
) -> list[Answered]:
    """Write events by partition, read the state once and return the answers of these paths.

    `names`: of customers, by token.
    """

    async def use(world: World) -> list[Answered]:
        for partition, of_partition in events.items():
            await world.writer.write(partition, of_partition, now_s)
        collected = await world.collector.collect(right_clock(now_s))
        live = LiveState(collected.live, None, 1.0)
        history = HistoryCache(settings)
        await history.read(now_s)
        source = DrillSource(
            lambda: live,
            lambda: collected.current,
            history,
            lambda token: (names or {}).get(token, token),
        )
        app = web.Application()
        app.add_routes(drill_routes(source))
        found = []
        async with TestClient(TestServer(app)) as client:
            for path in paths:
                answer = await client.get(path)
                found.append(Answered(answer.status, await answer.text(), dict(answer.headers)))
        return found

    return in_world(settings, use)


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.chart = ""
        self.columns: list[str] = []
        self.values: dict[str, dict[str, dict[int, float | None]]] = {}
        self._at_s, self._column, self._in_head = 0, 0, False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "figure":
            self.chart, self.columns = given["id"].removeprefix("chart-"), []
            self.values[self.chart] = {}
        elif tag == "th":
            self._in_head = given.get("scope") == "col"
        elif tag == "tr":
            self._at_s, self._column = int(given.get("data-at", 0)), 1
        elif tag == "td" and self.chart:
            text = given["data-value"]
            column = self.values[self.chart].setdefault(self.columns[self._column], {})
            column[self._at_s] = float(text) if text else None
            self._column += 1

    def handle_endtag(self, tag: str) -> None:
        self._in_head = False
        if tag == "figure":
            self.chart = ""

    def handle_data(self, data: str) -> None:
        if self._in_head:
            self.columns.append(data)


def chart_values(text: str) -> dict[str, dict[str, dict[int, float | None]]]:
    """Return the values of the tables of a page: chart -> line -> start of the step -> value."""
    parser = _Tables()
    parser.feed(text)
    return parser.values
