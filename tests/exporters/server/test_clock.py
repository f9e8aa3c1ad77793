"""An exporter whose clock jumps: the same numbers, a metric that says so, and nothing is closed."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from exporters.daily.cache import BoardCache
from exporters.drill.history import HistoryCache
from exporters.drill.ranges import RANGES
from exporters.server.collector import Collected, Collector
from exporters.server.refresher import Refresher
from exporters.status_page.cache import StatusCache
from streams.config.settings import Settings
from streams.store.servers.client import connect
from tests.support.checks import not_none
from tests.support.exporter_state import Samples, StateWriter, number, parsed, some_events
from tests.support.servers import wait_until
from tests.support.status_pages import page_file
from tests.support.two_clocks import TwoClocks

DAY_S = 86_400
JUMPS_S = [120, -120, 3 * DAY_S, -3 * DAY_S, 70 * DAY_S, -70 * DAY_S]
OFFSET, AGREES = "tokenpulse_clock_offset_seconds", "tokenpulse_clock_agrees"
NOON_S = datetime(2026, 11, 10, 12, tzinfo=UTC).timestamp()


def page(found: Collected) -> Samples:
    samples = parsed(found.page.text(False))
    return {key: one for key, one in samples.items() if key[0] not in (OFFSET, AGREES)}


@pytest.mark.parametrize("shift_s", JUMPS_S)
@pytest.mark.parametrize("redis_jumps", [False, True])
def test_an_exporter_shows_the_same_numbers_while_one_of_the_two_clocks_jumps(
    configured: Callable[..., Any], shift_s: int, redis_jumps: bool
) -> None:
    settings = configured(windows=["1h", "24h"])

    async def run() -> tuple[list[Samples], float]:
        writer = StateWriter(settings)
        await writer.write(0, some_events(3, 200, NOON_S - 7_200, NOON_S - 1), NOON_S)
        client = connect(settings.redis.url, 5)
        collector, clock = Collector(settings, client, {}), TwoClocks(NOON_S, NOON_S)
        pages, offset_s, agrees = [], 0.0, []
        for by_s in (0, shift_s, 0):
            clock.redis_s = NOON_S + by_s if redis_jumps else NOON_S
            clock.wall_s = NOON_S if redis_jumps else NOON_S + by_s
            found = await collector.collect(clock)
            pages.append(page(found))
            samples = parsed(found.page.text(False))
            agrees.append(number(samples, AGREES, process="exporter"))
            if by_s:
                offset_s = number(samples, OFFSET, process="exporter")
        await client.aclose()
        await writer.close()
        assert agrees == [1, 0, 1]
        return pages, offset_s

    (before, jumped, after), offset_s = asyncio.run(run())
    assert offset_s == (-shift_s if redis_jumps else shift_s)
    assert before == jumped
    assert before == after


def test_the_time_of_an_exporter_that_is_behind_rises_while_the_lag_of_events_changes(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["1h"])

    async def run() -> list[float]:
        writer = StateWriter(settings)
        client = connect(settings.redis.url, 5)
        collector, times_s = Collector(settings, client, {}), []
        for at_s, lag_s in enumerate((2, 4, 2, 5, 2), start=int(NOON_S)):
            newest_s = at_s - lag_s
            await writer.write(0, some_events(3, 20, newest_s - 0.5, newest_s), newest_s)
            reading = TwoClocks(at_s - 6, at_s)
            collected = await collector.collect(reading)
            times_s.append(reading.wall_s + collected.shift_s)
        await client.aclose()
        await writer.close()
        return times_s

    times_s = asyncio.run(run())
    assert times_s == sorted(times_s)


@pytest.mark.parametrize("shift_s", [DAY_S, -DAY_S])
def test_charts_status_page_and_daily_board_have_the_day_of_the_metrics(
    configured: Callable[..., Any],
    ready_refresher: Callable[[Settings], Refresher],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shift_s: int,
) -> None:
    settings, real = configured(windows=["1h"]), time.time
    refresher = ready_refresher(settings)
    monkeypatch.setattr(time, "time", lambda: real() + shift_s)
    wait_until(lambda: abs(refresher.likely_s() - real()) < 10, "the right time")
    charts = HistoryCache(settings, refresher.likely_s)
    status = StatusCache(settings, page_file(tmp_path), refresher.likely_s)
    boards = BoardCache(settings, {}, refresher.likely_s)
    threads = [charts.thread, status.thread, boards.thread]
    for thread in threads:
        thread.start()
    wait_until(lambda: charts.history(RANGES["1h"]) is not None, "charts")
    wait_until(lambda: status.facts() is not None, "the status page")
    today = asyncio.run(boards.facts("today"))
    for thread in threads:
        thread.stop()
    today_s = real() // DAY_S * DAY_S
    assert abs(not_none(charts.history(RANGES["1h"])).steps[-1].end_s - real()) < 120
    assert not_none(status.facts()).components[0].days[-1].start_s == today_s
    assert not_none(today).day.from_s == today_s


@pytest.mark.parametrize("redis_s", [NOON_S - 6, NOON_S + 6, None])
def test_a_period_is_closed_once_the_clocks_agree(
    configured: Callable[..., Any], redis_client: Redis, redis_s: float | None
) -> None:
    settings = configured(windows=["1h"])
    client = connect(settings.redis.url, 5)

    async def closed_after(clock: TwoClocks) -> int:
        await Collector(settings, client, {}).collect(clock)
        keys = cast(list[bytes], redis_client.keys("*:ledger:*"))
        names = [name for key in keys for name in cast(list[bytes], redis_client.hkeys(key))]
        return sum(name.startswith(b"closed:") for name in names)

    async def run() -> list[int]:
        writer = StateWriter(settings)
        # The day before yesterday is over for more than a day, and events have come since.
        begin_s = NOON_S - 3 * DAY_S
        for from_s in (begin_s, begin_s + DAY_S, begin_s + 2 * DAY_S, NOON_S - 60):
            await writer.write(0, some_events(3, 20, from_s, from_s + 59), from_s + 60)
        # With a second clock that differs, and with one that agrees.
        clocks = (TwoClocks(NOON_S, redis_s), TwoClocks(NOON_S, NOON_S - 4))
        closed = [await closed_after(clock) for clock in clocks]
        await client.aclose()
        await writer.close()
        return closed

    differing, agreeing = asyncio.run(run())
    assert differing == 0
    assert agreeing > 0
