"""The counts of an intake reach the stored history of its sources, also after Redis was away."""

import asyncio
import json
import time
from pathlib import Path

import pytest
import redis
from aiohttp import ClientSession

from streams.config.settings import Settings
from streams.intake.source_reports import SourceReports
from streams.store.servers.client import connect
from streams.store.source_counts import (
    EVENTS,
    RECORDS,
    REJECTED,
    SAMPLED,
    SUCCESSES,
    UNREAD_SPANS,
    WITH_USAGE,
    PendingCounts,
    SourceCount,
    SourceHistory,
)
from streams.store.source_store import SourceStore
from tests.support.intake_on_broker import IntakeOnBroker
from tests.support.otlp_payloads import document, span
from tests.support.redis_servers import RedisProcess
from tests.support.servers import Broker, RedisServer

SOURCE = "anonymous"
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
USAGE = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}
SCOPE = "opentelemetry.instrumentation.genai"


def traces() -> bytes:
    """Two calls with usage, one without, one of a sample, and two spans of a database."""
    with_usage: dict[str, object] = {**CALL, **USAGE}
    calls = [
        span("chat m", with_usage),
        span("chat m", with_usage),
        span("chat m", {**CALL}),
        span("chat m", with_usage, traceState="ot=th:8"),
    ]
    for number, call in enumerate(calls, start=1):
        call["spanId"] = f"{number:016x}"
    now_ns = time.time_ns()
    for call in calls:
        call |= {"startTimeUnixNano": str(now_ns - 10**9), "endTimeUnixNano": str(now_ns)}
    return json.dumps(document((SCOPE, calls), ("pg", [span("q", {}), span("q", {})]))).encode()


async def history_in(redis_url: str, settings: Settings) -> SourceHistory:
    client = connect(redis_url, 5)
    try:
        store = SourceStore(client, settings.kafka.group, settings.kafka.topic)
        return await store.read(time.time())
    finally:
        await client.aclose()


def test_what_a_source_sent_is_in_its_history_once_the_intake_has_ended(
    intake: IntakeOnBroker, redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = Settings(
        kafka=intake.broker.new_kafka(), redis={"url": redis_server.url}, intake={"port": 0}
    )

    async def use(client: ClientSession, _: Settings) -> str:
        headers = {"Content-Type": "application/json"}
        for path, body, status in (("/v1/traces", traces(), 200), ("/v1/events", b"{}", 400)):
            async with client.post(path, data=body, headers=headers) as answer:
                assert answer.status == status
        async with client.get("/metrics") as answer:
            return await answer.text()

    page = intake.run_reporting(use, settings)
    assert f'tokenpulse_intake_spans_total{{source="{SOURCE}"}} 6.0' in page
    history = asyncio.run(history_in(redis_server.url, settings))
    assert history.sources() == [SOURCE]
    assert history.scopes(SOURCE) == ["pg"]

    def total(kind: str, scope: str = "") -> int:
        return history.total(SourceCount(kind, SOURCE, scope), 3_600, time.time())

    assert {
        kind: total(kind) for kind in (RECORDS, EVENTS, REJECTED, SUCCESSES, WITH_USAGE, SAMPLED)
    } == {RECORDS: 2, EVENTS: 4, REJECTED: 1, SUCCESSES: 4, WITH_USAGE: 3, SAMPLED: 1}
    assert total(UNREAD_SPANS, "pg") == 2


def test_counts_wait_for_a_redis_that_is_away_and_the_intake_answers(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisProcess("embedded", tmp_path) as server:
        settings = Settings(kafka=broker.new_kafka(), redis={"url": server.url, "timeout_s": 1})
        pending = PendingCounts()
        pending.add({SourceCount(EVENTS, SOURCE): 3}, time.time())

        async def use() -> None:
            async with SourceReports(settings, pending) as reports:
                server.kill()
                await reports.report()
                await reports.report()
                server.start()
                pending.add({SourceCount(EVENTS, SOURCE): 4}, time.time())
                await reports.report()

        asyncio.run(use())
        history = asyncio.run(history_in(server.url, settings))
    assert history.total(SourceCount(EVENTS, SOURCE), 3_600, time.time()) == 7
    warnings = [one for one in caplog.records if "do not see the sources" in one.message]
    assert len(warnings) == 1
