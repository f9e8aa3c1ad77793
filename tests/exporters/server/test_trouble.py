"""What an export says when something went wrong: halts, losses, gaps, duplicates, floods."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from exporters.server.collector import Collector
from streams.config.settings import Settings
from streams.state.registry import OTHER
from streams.state.windows import ROLLING_S
from streams.store.servers.client import connect
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
    some_events,
    value,
    write_state,
)
from tests.support.two_clocks import right_clock

HALTED = "tokenpulse_partition_halted"
COMPLETE = "tokenpulse_window_complete"
LOST = "tokenpulse_lost_records_total"


def after(settings: Settings, steps: Callable[..., Any]) -> Samples:
    """Samples after `steps`, an async function that is handed a worker's stand-in."""

    async def run() -> None:
        writer = StateWriter(settings)
        await steps(writer)
        await writer.close()

    asyncio.run(run())
    return samples_of(settings)


def complete_windows(
    samples: Samples,
) -> tuple[set[str], Any]:
    found = {dict(labels)["window"]: one for labels, one in named(samples, COMPLETE).items()}
    assert set(found.values()) <= {0, 1}
    return {window for window, one in found.items() if one}, found.keys()


# -- halts -----------------------------------------------------------------------------------------


def test_a_halted_partition_stands_out_until_it_goes_on(configured: Callable[..., Any]) -> None:
    settings = configured()

    async def halt(writer: StateWriter) -> None:
        for partition in (0, 1):
            await writer.write(partition, [event(NOW_S)])
        await writer.send_heartbeat(1, NOW_S, halted="unreadable", halted_at=1)

    async def go_on(writer: StateWriter) -> None:
        await writer.send_heartbeat(1, NOW_S)

    samples = after(settings, halt)
    assert named(samples, HALTED) == {
        frozenset({("partition", "1"), ("reason", "unreadable")}): 1,
    }
    assert named(after(settings, go_on), HALTED) == {}


def test_a_partition_that_halted_before_anything_was_counted_is_not_passed_over(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def halt(writer: StateWriter) -> None:
        await writer.owned(3)
        await writer.send_heartbeat(3, NOW_S, halted="unreadable", halted_at=0)

    samples = after(settings, halt)
    assert value(samples, HALTED, partition="3", reason="unreadable") == 1
    assert value(samples, "tokenpulse_partition_pulse_timestamp_seconds", partition="3") == NOW_S
    assert value(samples, "tokenpulse_partition_lag_records", partition="3") is None
    found = export(settings)
    assert (found.partitions, found.newest_pulse_s) == (0, NOW_S)


# -- what is missing -------------------------------------------------------------------------------


def test_windows_that_hold_a_gap_are_not_complete_and_the_others_are(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["1m", "5m", "30m", "1h"])
    begin_s = NOW_S - 1_200

    async def lose(writer: StateWriter) -> None:
        # Partition 0:  event -20 min, 40 records gone, event -10 min, event now
        await writer.write(0, [event(begin_s)])
        (await writer.owned(0))[1].lose(41)
        await writer.write(0, [event(NOW_S - 600)])
        await writer.write(0, [event(NOW_S)])
        await writer.write(1, [event(NOW_S)])

    samples = after(settings, lose)
    complete, windows = complete_windows(samples)
    assert complete & set(ROLLING_S) == {"1m", "5m"}
    assert set(windows) >= {"1m", "5m", "30m", "1h", "day", "month"}
    assert not complete & {"day", "month"}
    assert value(samples, LOST, partition="0") == 40
    assert value(samples, LOST, partition="1") == 0


def test_while_no_event_has_come_since_a_loss_no_window_that_ends_now_is_complete(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def lose(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S - 3_600)])
        await writer.write(1, [event(NOW_S)])
        (await writer.owned(0))[1].lose(9)
        await writer.write(0, [b"not json"])

    samples = after(settings, lose)
    assert complete_windows(samples)[0] == set()
    assert value(samples, LOST, partition="0") == 8


def test_a_state_that_began_within_its_log_is_complete_for_windows_since_its_first_event(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def begin(writer: StateWriter) -> None:
        (await writer.owned(0))[1].begin_at(5_000)
        await writer.write(0, [event(NOW_S - 700), event(NOW_S)])
        await writer.write(1, [event(NOW_S - 90_000), event(NOW_S)])

    complete, windows = complete_windows(after(settings, begin))
    assert complete & set(ROLLING_S) == {"1m", "5m"}
    assert windows >= {"30m", "30d"}


def test_a_state_that_was_always_there_is_complete_however_young(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    write_state(settings, {0: [event(NOW_S)]})
    complete, windows = complete_windows(samples_of(settings))
    assert complete == set(windows)


# -- what a state and its worker went through ------------------------------------------------------


def test_lost_states_are_counted_by_partition_and_rollbacks_by_worker(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def suffer(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S)])
        (await writer.owned(1))[1].mark_rebuilt(2)
        await writer.write(1, [event(NOW_S)])
        await writer.send_heartbeat(1, NOW_S + 1, worker="host:0", rollbacks=3)

    samples = after(settings, suffer)
    assert value(samples, "tokenpulse_state_losses_total", partition="0") == 0
    assert value(samples, "tokenpulse_state_losses_total", partition="1") == 2
    assert named(samples, "tokenpulse_state_rollbacks_total") == {
        frozenset({("worker", "host:0")}): 3
    }


def test_the_archive_and_the_ids_are_told_where_a_worker_tells_them(
    configured: Callable[..., Any],
) -> None:
    settings = configured()

    async def tell(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S)])
        await writer.write(1, [event(NOW_S)])
        await writer.send_heartbeat(
            1, NOW_S, archived_ms=(NOW_S - 60) * 1_000, seen_ids=1_234, seen_forgotten=70
        )

    samples = after(settings, tell)
    archived = named(samples, "tokenpulse_partition_archive_timestamp_seconds")
    assert archived == {frozenset({("partition", "1")}): NOW_S - 60}  # 0 was never archived
    assert value(samples, "tokenpulse_archive_interval_seconds") == 3_600
    for name, told in (("ids", 1_234), ("forgotten_total", 70)):
        name = f"tokenpulse_duplicate_window_{name}"
        assert [value(samples, name, partition=one) for one in "01"] == [0, told]


def test_a_pulse_of_an_older_worker_says_nothing_of_what_it_does_not_know(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    write_state(settings, {0: [event(NOW_S)]})

    async def old_pulse() -> Samples:
        client = connect(settings.redis.url, 5)
        key = f"tp:{{{settings.kafka.group}:{settings.kafka.topic}:0}}:pulse"
        await client.delete(key)
        await client.hset(key, mapping={"at_ms": NOW_S * 1_000, "worker": "old:1", "fenced": 2})
        found = await Collector(settings, client, {}).collect(right_clock(NOW_S))
        await client.aclose()
        return parsed(found.page.text(openmetrics=False))

    samples = asyncio.run(old_pulse())
    assert value(samples, "tokenpulse_worker_fenced_flushes_total", worker="old:1") == 2
    for absent in ("state_rollbacks_total", "duplicate_window_ids", "partition_halted"):
        assert named(samples, f"tokenpulse_{absent}") == {}


def test_duplicates_are_counted_and_count_for_nothing_else(configured: Callable[..., Any]) -> None:
    settings = configured()

    async def send_again(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S), event(NOW_S), event(NOW_S), b"{"], duplicates=2)
        await writer.write(1, [event(NOW_S), event(NOW_S)], duplicates=1)

    samples = after(settings, send_again)
    assert value(samples, "tokenpulse_duplicates_total") == 3
    assert sum(named(samples, "tokenpulse_requests_total").values()) == 2
    refused = {dict(labels)["reason"]: one for labels, one in
               named(samples, "tokenpulse_refused_total").items()}  # fmt: skip
    assert {reason for reason, one in refused.items() if one} == {"not_json"}


# -- floods of names -------------------------------------------------------------------------------

DIMENSIONS = {
    "model": "models",
    "region": "regions",
    "channel": "channels",
    "service_tier": "service_tiers",
}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_flood_of_names_ends_up_as_other_loses_no_request_and_is_told(
    configured: Callable[..., Any], dimension: str
) -> None:
    cap, names = 3, 40
    settings = configured(worker={"limits": {DIMENSIONS[dimension]: cap}}, windows=["5m"])
    flood = [
        event(NOW_S, **{dimension: f"n{at}"}) for at in range(names) for _ in range(1 + at % 2)
    ]
    write_state(settings, {0: flood})
    samples = samples_of(settings)

    def by_name(metric: str, **labels: Any) -> Counter[Any]:
        found: Counter[Any] = Counter()
        for one, count in named(samples, metric).items():
            if labels.items() <= dict(one).items():
                found[dict(one)[dimension]] += int(count)
        return found

    total = by_name("tokenpulse_requests_total", outcome="success")
    assert len(total) == cap + 1
    assert total[OTHER] > 0
    assert sum(total.values()) == len(flood)
    in_window = {"window": "5m", "scope": dimension, "outcome": "success"}
    assert by_name("tokenpulse_window_requests", **in_window) == total
    folded = {
        dict(one)["dimension"]: count
        for one, count in named(samples, "tokenpulse_folded_total").items()
    }
    assert {name for name, count in folded.items() if count} == {dimension}
    assert folded[dimension] == total[OTHER]


def test_an_overflow_of_customers_times_models_is_on_the_page(
    configured: Callable[..., Any],
) -> None:
    settings = configured(worker={"limits": {"customer_models": 2}})
    write_state(settings, {0: some_events(2, 300, NOW_S - 600, NOW_S)})
    samples = samples_of(settings)
    assert number(samples, "tokenpulse_folded_total", dimension="customer_model") > 0
    assert number(samples, "tokenpulse_folded_total", dimension="customer") == 0


def test_a_flood_of_customers_and_of_series_is_told_too(configured: Callable[..., Any]) -> None:
    limits = {"customers": 2, "series": 4}
    settings = configured(worker={"limits": limits}, customer_windows=["1h"])
    events = some_events(2, 300, NOW_S - 600, NOW_S)  # 6 series, 4 customers
    write_state(settings, {0: events[::2], 1: events[1::2]})
    samples = samples_of(settings)
    customers = {
        dict(one)["customer"]: count
        for one, count in named(samples, "tokenpulse_window_requests").items()
        if {("scope", "customer"), ("outcome", "success")} <= one
    }
    assert OTHER in customers
    for dimension in ("customer", "series"):
        assert number(samples, "tokenpulse_folded_total", dimension=dimension) > 0
    real = [one for one in events if not one.get("probe")]
    assert sum(named(samples, "tokenpulse_requests_total").values()) == len(real)
