"""What an export does not say: silence, loss and restarts, and who the customers are."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

import pytest
from redis import Redis

from exporters.catalogue.pipeline import PARTITION_FRESHNESS
from exporters.reference.customers import Customer
from exporters.server.collector import Collector
from streams.state.slices import Aggregate, SliceId
from streams.store.contract import StoreError
from streams.store.reader import StateReader, StateSnapshot
from streams.store.servers.client import connect
from streams.store.slice_cache import SliceCache
from tests.support.exporter_state import (
    NOW_S,
    Samples,
    StateWriter,
    event,
    export,
    named,
    number,
    parsed,
    samples_of,
    settings_for,
    some_events,
    token_of,
    value,
    write_state,
)
from tests.support.two_clocks import right_clock

# -- honesty ---------------------------------------------------------------------------------------


def test_without_any_state_there_are_no_numbers(configured: Callable[..., Any]) -> None:
    found = export(configured())
    assert found.partitions == 0
    samples = parsed(found.page.text(openmetrics=False))
    assert all(name.startswith("tokenpulse_clock_") for name, _ in samples)


def test_a_silent_source_fades_out_of_its_windows_and_its_totals_stay(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["5m", "1h"], series_windows=["5m"])
    write_state(settings, {0: [event(NOW_S)]})

    def windows_at(now_s: int) -> set[str]:
        samples = samples_of(settings, now_s)
        total = named(samples, "tokenpulse_requests_total")
        assert sum(total.values()) == 1
        return {
            dict(labels)["window"]
            for labels in named(samples, "tokenpulse_window_requests")
            if dict(labels)["scope"] == "fleet"
        } & {"5m", "1h"}

    # The event lies in [..000, ..010); at NOW_S + 290 the window of 5 minutes ends at ..300.
    assert windows_at(NOW_S + 290) == {"5m", "1h"}
    assert windows_at(NOW_S + 300) == {"1h"}
    assert windows_at(NOW_S + 3_700) == set()


def test_what_is_unknown_is_absent(configured: Callable[..., Any]) -> None:
    settings = configured(windows=["5m"])
    write_state(
        settings,
        {0: [event(NOW_S, outcome="rate_limited", input_tokens=0, cached_input_tokens=0)]},
    )
    samples = samples_of(settings)
    fleet = {"scope": "fleet", "window": "5m"}
    assert value(samples, "tokenpulse_window_requests", outcome="rate_limited", **fleet) == 1
    assert value(samples, "tokenpulse_ttft_samples", **fleet) == 0
    for name in ("ttft_seconds", "cache_hit_ratio", "availability_ratio", "within_target_ratio"):
        assert not named(samples, f"tokenpulse_{name}")
    assert not any(math.isnan(one) for one in samples.values())


def test_a_young_state_does_not_pass_for_thirty_days(configured: Callable[..., Any]) -> None:
    settings = configured(windows=["5m", "30d"])
    write_state(settings, {0: [event(NOW_S - 86_400), event(NOW_S)]})
    samples = samples_of(settings)
    coverage = "tokenpulse_window_coverage_ratio"
    assert value(samples, coverage, window="5m") == 1
    assert 1 / 31 < number(samples, coverage, window="30d") < 2 / 29
    assert number(samples, "tokenpulse_state_since_timestamp_seconds") <= NOW_S - 86_400


def test_the_lag_of_a_worker_that_died_is_unknown(configured: Callable[..., Any]) -> None:
    settings = configured(stale_after_s=15)
    write_state(settings, {0: [event(NOW_S)]})
    lag = "tokenpulse_partition_lag_records"
    assert value(samples_of(settings, NOW_S + 14), lag, partition="0") == 7
    assert value(samples_of(settings, NOW_S + 16), lag, partition="0") is None


def test_freshness_is_the_age_of_an_event_when_it_is_first_seen(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def run() -> list[float | None]:
        writer = StateWriter(settings)
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        seen = []
        for written, now_s in ((NOW_S, NOW_S + 1), (None, NOW_S + 2), (NOW_S + 2, NOW_S + 3.5)):
            if written is not None:
                await writer.write(0, [event(written)])
            page = (await collector.collect(right_clock(now_s))).page
            samples = parsed(page.text(openmetrics=False))
            seen.append(value(samples, PARTITION_FRESHNESS.name, partition="0"))
        samples = parsed((await collector.collect(right_clock(NOW_S + 60))).page.text(False))
        seen.append(value(samples, PARTITION_FRESHNESS.name, partition="0"))
        await writer.close()
        await client.aclose()
        return seen

    assert asyncio.run(run()) == [None, None, 1.5, 1.5]


def test_worker_counters_stand_once_for_a_worker_with_many_partitions(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def write() -> None:
        writer = StateWriter(settings)
        for partition in (0, 1):
            await writer.write(partition, [event(NOW_S)])
        await writer.send_heartbeat(0, NOW_S, worker="host:9", fenced=1)
        await writer.send_heartbeat(1, NOW_S + 1, worker="host:9", fenced=2)
        await writer.close()

    asyncio.run(write())
    fenced = named(samples_of(settings), "tokenpulse_worker_fenced_flushes_total")
    assert list(fenced.values()) == [2]


def test_events_counted_while_a_target_was_not_configured_are_not_judged_by_it(
    configured: Callable[..., Any],
) -> None:
    old = configured(worker={"ttft_targets_s": [0.3]}, windows=["5m"], series_windows=[])
    new = configured(worker={"ttft_targets_s": [0.1]}, windows=["5m"], series_windows=[])
    write_state(old, {0: [event(NOW_S - 60, ttft_ms=50)]})
    write_state(new, {0: [event(NOW_S, ttft_ms=50), event(NOW_S, ttft_ms=200)]})
    ratios = {
        dict(labels)["target_seconds"]: one
        for labels, one in named(samples_of(new), "tokenpulse_within_target_ratio").items()
        if {("scope", "fleet"), ("window", "5m"), ("latency", "ttft")} <= labels
    }
    assert ratios == {"0.1": 0.5, "0.3": 1}


# -- restarts, loss --------------------------------------------------------------------------------


def test_totals_never_fall_over_restarts_and_two_exporters_agree(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    events = some_events(11, 300, NOW_S - 900, NOW_S)
    before: Samples = {}

    async def write(part: list[dict[str, Any]]) -> None:
        writer = StateWriter(settings)  # a fresh worker each time: it claims and loads
        await writer.write(0, part)
        await writer.close()

    for at in range(0, len(events), 50):
        asyncio.run(write(events[at : at + 50]))
        one, other = samples_of(settings), samples_of(settings)
        assert one == other
        totals = {
            key: found
            for key, found in one.items()
            if key[0].endswith(("_total", "_bucket", "_sum", "_count"))
        }
        assert before.keys() <= totals.keys()
        assert all(totals[key] >= found for key, found in before.items())
        before = totals


def test_a_state_that_was_lost_and_rebuilt_is_read_afresh(
    configured: Callable[..., Any], redis_client: Redis
) -> None:
    settings = configured(windows=["5m"], series_windows=[])

    async def run() -> Samples:
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        writer = StateWriter(settings)
        await writer.write(0, [event(NOW_S - 10)])  # written by checkpoint 1 in both lives
        await writer.write(0, [event(NOW_S)])
        await collector.collect(right_clock(NOW_S))
        redis_client.flushdb()
        rebuilt = StateWriter(settings)
        await rebuilt.write(0, [event(NOW_S - 10, model="haiku")])
        found = await collector.collect(right_clock(NOW_S))
        for one in (writer, rebuilt, client):
            await (one.aclose() if one is client else one.close())
        return parsed(found.page.text(False))

    models = named(asyncio.run(run()), "tokenpulse_ttft_samples")
    assert {dict(labels).get("model"): one for labels, one in models.items()}["haiku"] == 1
    assert "opus" not in {dict(labels).get("model") for labels in models}


def test_a_clock_that_is_set_back_finds_its_windows_again(configured: Callable[..., Any]) -> None:
    settings = configured(windows=["1h"], series_windows=["5m"], customer_windows=[])
    write_state(settings, {0: [event(NOW_S)]})

    async def run() -> list[list[frozenset[tuple[Any, ...]]]]:
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        found = []
        for now_s in (NOW_S + 400, NOW_S):
            page = (await collector.collect(right_clock(now_s))).page
            samples = parsed(page.text(openmetrics=False))
            found.append(
                [
                    one
                    for one in named(samples, "tokenpulse_ttft_samples")
                    if ("window", "5m") in one
                ]
            )
        await client.aclose()
        return found

    later, earlier = asyncio.run(run())
    assert (len(later), len(earlier)) == (0, 1)


class Interrupted:
    """A consumer of all slices, that lets a worker write before the first slices are read."""

    def __init__(self, write: Callable[..., Any]) -> None:
        self.cache = SliceCache(lambda view: list(view.index))
        self.rounds, self.write = 0, write

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        self.rounds += 1
        if self.rounds == 1:
            self.write()
        return self.cache.missing(snapshot)

    def take(self, *slice_of_view: Any) -> None:
        self.cache.take(*slice_of_view)


def test_a_snapshot_holds_each_partition_at_one_checkpoint_for_all_its_consumers(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    write_state(settings, {0: [event(NOW_S - 10)], 1: [event(NOW_S)]})

    async def run() -> None:
        client = connect(settings.redis.url, 5)
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        snapshot = await reader.snapshot()
        before = {view.partition: view for view in snapshot.views}
        first = SliceCache(lambda view: list(view.index))
        write = Thread(target=write_state, args=(settings, {0: [event(NOW_S, model="haiku")]}))

        def interrupt() -> None:
            write.start()
            write.join()

        second = Interrupted(interrupt)
        await snapshot.load([first, second])
        after = {view.partition: view for view in snapshot.views}
        assert after[1] is before[1]
        assert after[0].meta.sequence == before[0].meta.sequence + 1
        for view in after.values():
            slices = first.aggregates(view)
            assert slices == second.cache.aggregates(view)
            assert slices.keys() == view.index.keys()
            finest = [slices[one] for one in sorted(slices) if one.level == 0]
            assert int(Aggregate.merged(finest).series.values.sum()) == int(
                view.totals.series.values.sum()
            )
        rounds = second.rounds
        await snapshot.load([first, second])  # nothing changed: nothing is read again
        assert second.rounds == rounds + 1
        await client.aclose()

    asyncio.run(run())


def test_an_unreadable_store_is_an_error_not_a_number(unused_port: int) -> None:
    settings = settings_for(f"redis://127.0.0.1:{unused_port}/0")
    with pytest.raises(StoreError, match="cannot read the state"):
        export(settings)


# -- customers -------------------------------------------------------------------------------------


def test_only_the_customers_with_most_requests_stand_out_by_name_where_known(
    configured: Callable[..., Any],
) -> None:
    settings = configured(customers_top=2, customer_windows=["1h"])
    events = [
        event(NOW_S, customer_id=customer)
        for customer, requests in (("small", 1), ("big", 3), ("middle", 2))
        for _ in range(requests)
    ]
    write_state(settings, {0: events[:4], 1: events[4:]})
    samples = samples_of(settings, NOW_S, **{token_of("big"): Customer("Big Corp", "enterprise")})
    customers = {
        (dict(labels)["customer"], dict(labels).get("segment")): one
        for labels, one in named(samples, "tokenpulse_window_requests").items()
        if ("scope", "customer") in labels and ("outcome", "success") in labels
    }
    assert customers == {("Big Corp", "enterprise"): 3, (token_of("middle"), None): 2}


def test_no_customer_id_is_ever_exported_in_clear(configured: Callable[..., Any]) -> None:
    settings = configured()
    write_state(settings, {0: [event(NOW_S, customer_id="very-secret-customer")]})
    assert b"very-secret-customer" not in export(settings).page.text(openmetrics=False)
    assert token_of("very-secret-customer").encode() in export(settings).page.text(False)
