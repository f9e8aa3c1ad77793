"""A log of one event a day: its newest events are after the watermark, and count everywhere."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import redis

from exporters.status_page.cache import StatusCache
from streams.query.steps import DAY_S
from tests.support.checks import not_none
from tests.support.command import run
from tests.support.exporter_state import StateWriter, event, settings_for
from tests.support.servers import RedisServer
from tests.support.status_pages import page_file

DAYS = 20
POLICY = """
version: 1
name: api
objectives:
  - name: ratio
    indicator: {kind: request_ratio}
    target: 99%
    period: {rolling_days: 28}
"""


def test_sla_daily_board_and_status_page_count_events_after_the_watermark(
    redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    settings = settings_for(
        redis_server.url,
        status_page=page_file(tmp_path),
        policies=[str(tmp_path / "policy.yaml")],
    )
    now_s = time.time()
    times_s = [now_s - day * DAY_S - 1 for day in reversed(range(DAYS))]

    async def write_and_read_status() -> list[int]:
        """Return the eligible requests of each component on the status page."""
        writer = StateWriter(settings)
        events = [event(at_s, request_id=f"r{at_s}") for at_s in times_s]
        await writer.write(0, events, now_s, by_sender=True)
        _, state = await writer.owned(0)
        assert not_none(state.watermark.settled_ms) < times_s[-2] * 1_000
        await writer.close()
        cache = StatusCache(settings, not_none(settings.exporter.status_page))
        await cache.read(now_s)
        page = not_none(cache.facts())
        return [sum(day.eligible for day in component.days) for component in page.components]

    assert max(asyncio.run(write_and_read_status())) == DAYS

    [objective] = json.loads(run("sla", "--json", settings=settings).output)
    assert objective["attainment"] == {"ratio": "1", "good": str(DAYS), "counted": DAYS}

    # Not yesterday: until 04:00 its late events are the reason given.
    date = f"{datetime.fromtimestamp(times_s[-3], UTC):%Y-%m-%d}"
    board = json.loads(run("daily", "--date", date, "--format", "json", settings=settings).output)
    [day] = [day for day in board["days"] if day["date"] == date]
    assert (day["state"], day["values"]["requests"]) == ("provisional", 1)
    assert "not all events are read yet: partition 0 is read up to " in board["trust"]
