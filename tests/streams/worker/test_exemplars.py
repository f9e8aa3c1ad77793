"""Which requests become exemplars, and where an export shows them."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from redis import Redis

from streams.config.settings import Settings
from streams.events.decoder import EventLimits, decode
from streams.state.edges import export_edges
from streams.state.slices import LATENCIES, Thresholds
from streams.worker.exemplars import (
    KEPT_MAX,
    KEPT_MS,
    LOOKED_AT,
    Exemplar,
    Exemplars,
    load_exemplars,
)
from tests.support.exporter_state import NOW_S, StateWriter, event, export, parsed, settings_for
from tests.support.servers import RedisServer

EDGES = export_edges(Thresholds.of_seconds((0.3,), (0.05,), ()))
RULES = EventLimits(10_000, 300_000, 10**12)


def kept_after(*batches: Any, known: Callable[..., Any] = lambda series: True) -> Exemplars:
    """What is kept after each batch was looked at."""
    kept = Exemplars(EDGES)
    for events in batches:
        values = [msgspec.json.encode(one) for one in events]
        columns = decode(values, np.full(len(values), NOW_S * 1_000 + 10), None, RULES).columns
        assert len(columns.position) == len(values)
        kept.sample(values, columns, known)
    return kept


def looked_at(*batches: Any, **options: Any) -> list[Exemplar]:
    """The same, as another process reads it."""
    return load_exemplars(kept_after(*batches, **options).dump())


def traces(found: list[Exemplar], latency: str = "ttft") -> set[str]:
    return {one.trace_id for one in found if one.latency == latency}


def test_the_slowest_that_has_a_trace_and_the_newest_are_taken() -> None:
    found = looked_at(
        [
            event(NOW_S, trace_id="fast", ttft_ms=100, duration_ms=1_000),
            event(NOW_S, trace_id="slow-start", ttft_ms=900, duration_ms=1_100),
            event(NOW_S, ttft_ms=5_000, duration_ms=60_000),  # slowest, but untraced
            event(NOW_S, trace_id="slow", ttft_ms=200, duration_ms=30_000),
            event(NOW_S, trace_id="newest", ttft_ms=45, duration_ms=1_000),
        ]
    )
    assert traces(found) == {"slow-start", "slow", "newest"}
    slow = next(one for one in found if one.trace_id == "slow" and one.latency == "duration")
    assert slow == Exemplar("opus", "us-east-1", "duration", 30 * 10**9, NOW_S * 1_000, "slow")


def test_each_model_and_region_has_its_own() -> None:
    found = looked_at(
        [
            event(NOW_S, trace_id=f"{model}-{region}", model=model, region=region)
            for model in ("opus", "haiku")
            for region in ("us", "eu")
        ]
    )
    assert traces(found) == {"opus-us", "opus-eu", "haiku-us", "haiku-eu"}
    assert all(one.trace_id == f"{one.model}-{one.region}" for one in found)


def test_the_newest_by_its_own_time_stays_in_a_bucket() -> None:
    # the second batch holds a late event: Prometheus would refuse an exemplar that goes back
    batches = [
        [event(NOW_S, trace_id="now")],
        [event(NOW_S - 60, trace_id="late")],
    ]
    assert traces(looked_at(*batches)) == {"now"}
    assert traces(looked_at(*reversed(batches))) == {"now"}


def test_requests_without_a_latency_are_not_taken() -> None:
    found = looked_at(
        [
            event(NOW_S, trace_id="probe", probe=True),
            event(NOW_S, trace_id="failed", outcome="timeout"),
            event(NOW_S, trace_id="slow", ttft_ms=2_000, duration_ms=9_000),
            event(NOW_S, trace_id="newest"),
            event(NOW_S, trace_id="later-failure", outcome="server_error"),
        ]
    )
    assert traces(found) == {"slow", "newest"}


def test_a_trace_that_is_no_text_is_passed_over() -> None:
    values = [
        msgspec.json.encode(event(NOW_S, trace_id=trace, duration_ms=9_000)) for trace in ("x", "y")
    ]
    values[0] = values[0].replace(b'"x"', b'"\xff"')
    columns = decode(values, np.full(2, NOW_S * 1_000), None, RULES).columns
    kept = Exemplars(EDGES)
    kept.sample(values, columns, lambda series: True)
    assert traces(load_exemplars(kept.dump())) == {"y"}


def test_series_that_are_not_counted_under_their_name_are_left_out() -> None:
    found = looked_at(
        [event(NOW_S, trace_id="a"), event(NOW_S, trace_id="b", model="invented")],
        known=lambda series: series[0] != "invented",
    )
    assert traces(found) == {"a"}


@pytest.mark.parametrize(
    "trace_id", ["", "x" * 97, 'a"b', "a\nb", "a\n", "ä", "a\\", "{}", "a#b", "\u202e"]
)
def test_only_what_may_stand_in_a_label_is_taken(trace_id: str) -> None:
    traced = {"trace_id": trace_id} if trace_id else {}
    assert kept_after([event(NOW_S, **traced)]).dump() == "[]"
    one = ["m", "r", "ttft", 1, 1, trace_id]
    assert load_exemplars(json.dumps([one])) == []


@pytest.mark.parametrize(
    "text", ["", "x", "[1]", "{}", '[["m","r","ttft",-1,1,"t"]]', '[["m","r","other",1,1,"t"]]']
)
def test_what_is_not_understood_is_nothing(text: str) -> None:
    assert load_exemplars(text) == []


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    batches = [
        [event(NOW_S, trace_id=f"t{at}", model=f"m{at}", region="r")] for at in range(KEPT_MAX)
    ]
    found = looked_at(*batches)
    assert len(found) == KEPT_MAX
    assert f"t{KEPT_MAX - 1}" in traces(found)
    assert "t0" not in traces(found)
    refreshed = [*batches[:20], batches[0], *batches[20:]]
    assert "t0" in traces(looked_at(*refreshed[: KEPT_MAX // 3 + 10]))
    assert "t1" not in traces(looked_at(*refreshed[: KEPT_MAX // 3 + 10]))
    assert len(json.dumps(found)) < 200 * KEPT_MAX


def test_what_is_old_beside_the_newest_is_told_no_more() -> None:
    old_s = NOW_S - KEPT_MS // 1_000 - 1
    old, recent = event(old_s, trace_id="old", ttft_ms=900), event(NOW_S, trace_id="recent")
    assert traces(looked_at([old])) == {"old"}
    assert traces(looked_at([old], [recent])) == {"recent"}


def test_of_a_large_batch_only_the_newest_events_are_looked_at() -> None:
    events = [event(NOW_S, trace_id="first", ttft_ms=2_000)]
    events += [event(NOW_S, trace_id="other") for _ in range(LOOKED_AT)]
    assert traces(looked_at(events)) == {"other"}


BATCHES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["opus", "haiku"]),
            st.sampled_from(["us", "eu"]),
            st.integers(0, 20_000),
            st.integers(0, 60_000),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(BATCHES)
def test_every_exemplar_is_a_real_request_and_no_bucket_has_two(
    batches: list[list[tuple[str, str, int, int, bool]]],
) -> None:
    real: dict[str, tuple[str, str, int, int, bool]] = {}
    made: list[list[dict[str, Any]]] = []
    for batch in batches:
        made.append([])
        for model, region, ttft_ms, more_ms, traced in batch:
            trace_id = f"t{len(real)}"
            real[trace_id] = (model, region, ttft_ms, ttft_ms + more_ms, traced)
            sent = event(NOW_S, model=model, region=region, ttft_ms=ttft_ms)
            sent["duration_ms"] = ttft_ms + more_ms
            made[-1].append(sent | ({"trace_id": trace_id} if traced else {}))
    found = looked_at(*made)
    buckets = set()
    for one in found:
        model, region, ttft_ms, duration_ms, traced = real[one.trace_id]
        assert traced
        assert (one.model, one.region) == (model, region)
        ms = {"ttft": ttft_ms, "duration": duration_ms, "tpot": (duration_ms - ttft_ms) / 100}
        assert one.value_ns == round(ms[one.latency] * 10**6)
        edges = EDGES[LATENCIES.index(one.latency)]
        at = next(at for at, edge_us in enumerate(edges) if one.value_ns <= edge_us * 1_000)
        buckets.add((model, region, one.latency, at))
    assert len(buckets) == len(found)
    assert bool(found) == any(traced for *_, traced in real.values())


# -- as exported -----------------------------------------------------------------------------------

TTFT = "gen_ai_server_time_to_first_token_seconds"


def told(*exemplars: Any) -> str:
    return msgspec.json.encode(exemplars).decode()


@pytest.fixture
def configured(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    """Settings of an exporter over a state of one partition, its exemplars those given."""

    def configure(events: list[dict[str, Any]], *exemplars: Any) -> Settings:
        settings = settings_for(redis_server.url)

        async def write() -> None:
            writer = StateWriter(settings)
            await writer.write(0, events)
            await writer.send_heartbeat(0, NOW_S, exemplars=told(*exemplars))
            await writer.close()

        asyncio.run(write())
        return settings

    return configure


def shown(
    settings: Settings, of_fleet: bool = False
) -> dict[tuple[str, str], tuple[dict[str, str], float, float]]:
    """{(metric, le): (trace id, value, time)} of an export in OpenMetrics.

    `of_fleet`: of the histograms of all requests, else of those by model and region.
    """
    text = export(settings).page.text(openmetrics=True).decode()
    return {
        (sample.name, sample.labels["le"]): (
            sample.exemplar.labels,
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar and (family.name == "tokenpulse_latency_seconds") == of_fleet
    }


def exemplar(
    value_ns: int,
    trace_id: str = "4bf92f3577b34da6a3ce929d0e0e4736",
    at_ms: int = NOW_S * 1_000,
    **more: Any,
) -> Exemplar:
    one = Exemplar("opus", "us-east-1", "ttft", value_ns, at_ms, trace_id)
    return one._replace(**more)


def test_an_exemplar_stands_at_the_bucket_its_value_is_in(configured: Callable[..., Any]) -> None:
    settings = configured([event(NOW_S)], exemplar(200_000_000))  # TTFT 0.2 s is in (0.1, 0.24]
    labels = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
    assert shown(settings) == {(f"{TTFT}_bucket", "0.24"): (labels, 0.2, NOW_S)}
    text = export(settings).page.text(openmetrics=True).decode()
    assert '# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.2 1700000005.0\n' in text


def test_a_value_on_an_edge_is_in_the_bucket_that_ends_there(
    configured: Callable[..., Any],
) -> None:
    settings = configured([event(NOW_S, ttft_ms=300)], exemplar(300_000_000))
    assert [le for _, le in shown(settings)] == ["0.3"]


def test_each_latency_is_shown_at_its_own_histogram(configured: Callable[..., Any]) -> None:
    of = {"ttft": 200_000_000, "tpot": 20_000_000, "duration": 2_200_000_000}  # as `event` has them
    made = [exemplar(value_ns, name, latency=name) for name, value_ns in of.items()]
    found = shown(configured([event(NOW_S)], *made))
    assert {name: labels["trace_id"] for (name, _), (labels, _, _) in found.items()} == {
        f"{TTFT}_bucket": "ttft",
        "gen_ai_server_time_per_output_token_seconds_bucket": "tpot",
        "gen_ai_server_request_duration_seconds_bucket": "duration",
    }


def test_the_newest_of_a_bucket_is_shown(configured: Callable[..., Any]) -> None:
    newer, older = exemplar(2 * 10**8, "newer"), exemplar(2 * 10**8, "older", NOW_S * 1_000 - 9)
    for pair in ([newer, older], [older, newer]):
        settings = configured([event(NOW_S)], *pair)
        for of_fleet in (False, True):
            ((labels, _, _),) = shown(settings, of_fleet).values()
            assert labels == {"trace_id": "newer"}


def test_what_is_in_no_counted_bucket_is_left_out(configured: Callable[..., Any]) -> None:
    settings = configured(
        [event(NOW_S)],
        exemplar(10**9),  # nothing is counted there yet
        exemplar(2 * 10**8, model="other"),
        exemplar(2 * 10**8, region="other"),
        exemplar(10**15),
    )
    assert shown(settings) == {}
    # The histogram of the fleet counts every model and region, so it shows an exemplar of any.
    assert len(shown(settings, of_fleet=True)) == 1


def test_the_plain_format_and_the_numbers_know_nothing_of_exemplars(
    configured: Callable[..., Any], redis_client: Redis
) -> None:
    events = [event(NOW_S), event(NOW_S, ttft_ms=900)]
    settings = configured(events, exemplar(2 * 10**8), exemplar(9 * 10**8))
    with_them = export(settings).page
    assert len(shown(settings)) == 2
    assert b"trace_id" in with_them.text(openmetrics=True)
    assert b"trace_id" not in with_them.text(openmetrics=False)
    redis_client.flushdb()
    without = export(configured(events)).page
    assert parsed(without.text(openmetrics=False)) == parsed(with_them.text(openmetrics=False))


def test_junk_in_the_sign_of_life_spoils_no_export(configured: Callable[..., Any]) -> None:
    for junk in ("[", '[["opus"]]', told(exemplar(2 * 10**8, 'a"} 1\nx 1 #'))):
        settings = configured([event(NOW_S)])

        async def write(settings: Settings = settings, junk: str = junk) -> None:
            writer = StateWriter(settings)
            await writer.send_heartbeat(0, NOW_S, exemplars=junk)
            await writer.close()

        asyncio.run(write())
        assert shown(settings) == {}


def test_labels_stay_within_what_openmetrics_allows() -> None:
    # 128 characters of names and values
    chance = random.Random(1)
    longest = "".join(chance.choices("abc019", k=96))
    assert load_exemplars(told(exemplar(1, longest)))[0].trace_id == longest
    assert len("trace_id") + len(longest) <= 128
