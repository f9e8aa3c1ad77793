"""Names, contracts and reports of customers while the key of their ids is changed."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import redis

from exporters.reference.customers import load_directory
from exporters.server.collector import Collector
from streams.config.settings import Settings
from streams.store.keys import Keys
from streams.store.servers.client import connect
from tests.support.command import run
from tests.support.exporter_state import (
    NOW_S,
    SECRET,
    Samples,
    event,
    named,
    number,
    parsed,
    write_state,
)
from tests.support.two_clocks import right_clock

POLICY = """
version: 1
name: contract
objectives:
  - name: uptime
    scope: {customer: acme}
    indicator: {kind: request_ratio}
    target: 99%
    period: {rolling_days: 1}
"""
DIRECTORY = """
- {id: acme, name: Acme Corp, segment: enterprise}
- {id: globex, name: Globex, segment: startup}
"""
KEYS: list[dict[str, Any]] = [
    {"customer_key": SECRET},
    {"customer_key": "e" * 32, "customer_key_previous": SECRET},
    {"customer_key": "e" * 32},
]


def samples_of(settings: Settings) -> Samples:
    """One export by an exporter that has just been started."""

    async def collect() -> Samples:
        client = connect(settings.redis.url, 5)
        try:
            collector = Collector(settings, client, load_directory(settings))
            collected = await collector.collect(right_clock(NOW_S))
        finally:
            await client.aclose()
        return parsed(collected.page.text(openmetrics=False))

    return asyncio.run(collect())


def test_names_and_contracts_stay_with_each_step_in_which_the_key_is_changed(
    configured: Callable[..., Settings], tmp_path: Path
) -> None:
    policy, directory = tmp_path / "contract.yaml", tmp_path / "customers.yaml"
    policy.write_text(POLICY)
    directory.write_text(DIRECTORY)

    def settings_of(keys: dict[str, Any]) -> Settings:
        files = {"policies": [str(policy)], "customer_directory": directory}
        return configured(worker=keys, **files)

    for step, keys in enumerate(KEYS):
        fine = event(NOW_S - 40, request_id=f"fine {step}", customer_id="acme")
        failed = event(NOW_S - 30, request_id=f"bad {step}", customer_id="acme", outcome="timeout")
        other = event(NOW_S - 30, request_id=f"other {step}", customer_id="globex")
        write_state(settings_of(keys), {0: [fine], 1: [failed, other]})
        # Workers are restarted before exporters, so both may have the keys of other steps.
        for exporter_keys in KEYS[max(0, step - 1) : step + 1]:
            settings = settings_of(exporter_keys)
            samples = samples_of(settings)
            assert attained(samples) == 0.5
            customers = Counter[str]()
            for labels, value in named(samples, "tokenpulse_window_requests").items():
                if {("scope", "customer"), ("window", "1h")} <= labels:
                    customers[dict(labels)["customer"]] += round(value)
            assert customers == {"Acme Corp": 2 * (step + 1), "Globex": step + 1}
            report = run("report", "--by", "customer", settings=settings)
            assert report.exit_code == 0, report.output
            assert report.output.count("Acme Corp") == report.output.count("Globex") == 1
            checked = run("sla", "--json", settings=settings)
            assert checked.exit_code == 0, checked.output
            (entry,) = json.loads(checked.output)
            assert entry["scope"] == {"customer": "Acme Corp"}


def test_a_contract_is_found_again_once_lost_tokens_are_restored(
    configured: Callable[..., Settings], redis_client: redis.Redis, tmp_path: Path
) -> None:
    policy = tmp_path / "contract.yaml"
    policy.write_text(POLICY)
    before, during, after = (configured(worker=keys, policies=[str(policy)]) for keys in KEYS)
    for step, settings in enumerate((before, during)):
        write_state(settings, {step: [event(NOW_S - 40, customer_id="acme")]})
    key = Keys(after.kafka.group, after.kafka.topic).customer_tokens
    stored = cast(dict[Any, Any], redis_client.hgetall(key))

    async def attained_requests() -> list[float]:
        client = connect(after.redis.url, 5)
        found: list[float] = []
        try:
            collector = Collector(after, client, load_directory(after))
            for lost in (True, False):
                if lost:
                    redis_client.delete(key)
                else:
                    redis_client.hset(key, mapping=stored)
                page = (await collector.collect(right_clock(NOW_S))).page
                samples = named(parsed(page.text(False)), "tokenpulse_objective_eligible")
                found.append(max(samples.values(), default=0))
        finally:
            await client.aclose()
        return found

    assert asyncio.run(attained_requests()) == [0, 2]


def test_names_that_are_read_again_are_no_new_checkpoint(
    configured: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    before, during, after = (configured(worker=keys) for keys in KEYS)
    for settings in (before, during):
        write_state(settings, {0: [event(NOW_S - 40, customer_id="acme")]})
    key = Keys(after.kafka.group, after.kafka.topic).customer_tokens
    stored = cast(dict[Any, Any], redis_client.hgetall(key))
    redis_client.delete(key)
    write_state(after, {1: [event(NOW_S - 40, customer_id="acme")]})

    async def pages() -> list[Samples]:
        client = connect(after.redis.url, 5)
        try:
            collector = Collector(after, client, {})
            lost = await collector.collect(right_clock(NOW_S))
            redis_client.hset(key, mapping=stored)
            restored = await collector.collect(right_clock(NOW_S + 600))
        finally:
            await client.aclose()
        return [parsed(one.page.text(False)) for one in (lost, restored)]

    lost, restored = asyncio.run(pages())
    assert [len(customers_of(one)) for one in (lost, restored)] == [2, 1]
    assert not named(restored, "tokenpulse_partition_freshness_seconds")


def customers_of(samples: Samples) -> set[str]:
    """Return the names of the customers with requests of the last hour."""
    rows = map(dict, named(samples, "tokenpulse_window_requests"))
    return {row["customer"] for row in rows if (row["scope"], row["window"]) == ("customer", "1h")}


def attained(samples: Samples) -> float:
    """What is attained of the contract."""
    labels = {"policy": "contract", "objective": "uptime", "customer": "Acme Corp"}
    return number(samples, "tokenpulse_objective_attainment_ratio", **labels)
