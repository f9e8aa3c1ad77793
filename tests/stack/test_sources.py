"""A source of the intake goes silent: board and alert name it, and its next event ends it."""

import asyncio
import json
import time
from pathlib import Path

import pytest
import redis
from aiohttp import ClientSession

from alerts.evaluation.evaluator import RuleEvaluator, board_groups
from exporters.board.facts import Incident
from exporters.server.collector import Collector
from slo.policy.loading import load_policies
from streams.config.settings import Settings
from streams.store.servers.client import connect
from streams.store.source_counts import DAY_S, SLOT_S, PendingCounts
from tests.support.checks import not_none
from tests.support.event_samples import EVENT
from tests.support.exporter_state import event, write_state
from tests.support.intake_on_broker import IntakeOnBroker
from tests.support.servers import Broker, RedisServer
from tests.support.source_history import sent, write_sources
from tests.support.two_clocks import right_clock

SILENT = "TokenpulseSourceSilent"
TOKENS = {"gateway": "0123456789abcdef", "batch": "fedcba9876543210"}


@pytest.fixture
def settings(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> Settings:
    senders = [{"token": token, "tenant": name} for name, token in TOKENS.items()]
    tokens_file = tmp_path / "tokens.yaml"
    tokens_file.write_text(json.dumps({"senders": senders}))
    return Settings(
        kafka=broker.new_kafka(),
        redis={"url": redis_server.url},
        worker={"customer_key": "0123456789abcdef" * 2},
        intake={"port": 0, "tokens_file": tokens_file},
    )


def send(broker: Broker, settings: Settings, sender: str) -> None:
    """Send an event through an intake, which then ends."""

    async def use(client: ClientSession, _: Settings) -> int:
        body = {**EVENT, "request_id": sender, "ended_at": int(time.time() * 1_000)}
        headers = {"Authorization": f"Bearer {TOKENS[sender]}"}
        async with client.post("/v1/events", json=body, headers=headers) as answer:
            return answer.status

    assert IntakeOnBroker(broker).run_reporting(use, settings) == 200


def incidents(settings: Settings) -> list[Incident]:
    """What an exporter that just started shows about silent sources."""

    async def collect() -> list[Incident]:
        rules = RuleEvaluator(board_groups(load_policies(settings.exporter.policies)))
        client = connect(settings.redis.url, 5)
        try:
            collector = Collector(settings, client, {}, rules)
            collected = await collector.collect(right_clock(time.time()))
        finally:
            await client.aclose()
        return [one for one in not_none(collected.live).incidents if one.alert == SILENT]

    return asyncio.run(collect())


def test_of_two_sources_the_silent_one_is_named_until_it_sends_again(
    settings: Settings, broker: Broker
) -> None:
    now_s = time.time()
    write_state(settings, {0: [event(now_s - 5)]}, now_s)
    history = PendingCounts()
    for source in TOKENS:
        at_s = now_s - 2 * DAY_S
        while at_s < now_s - 2 * SLOT_S:
            history.add(sent(source, 50), at_s)
            at_s += SLOT_S
    write_sources(settings, [history])
    send(broker, settings, "batch")
    [incident] = incidents(settings)
    assert incident.words.startswith("Source gateway is silent")
    assert incident.severity == "ticket"
    send(broker, settings, "gateway")
    assert incidents(settings) == []
