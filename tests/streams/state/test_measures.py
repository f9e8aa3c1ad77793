"""What people read: ratios of sums, percentiles with their count, nothing for what is unknown."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state import measures
from streams.state.measures import by_customer_model, by_series, whole, without_apart_tiers
from streams.state.slices import Aggregate, rejection_counts
from tests.support.aggregates import counted
from tests.support.measured import agrees, faults_of_rows, must
from tests.support.oracle import judge, recount
from tests.support.oracle_counts import Row, nearest_rank
from tests.support.shelf import LOGS, NOON, plain

QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(LOGS)
def test_the_measures_of_any_log_are_those_of_a_recount(log: list[Any]) -> None:
    aggregate, *_ = counted(log)
    rows = recount(log).rows
    assert agrees(measures.measures(whole(aggregate)), rows, faults=faults_of_rows(rows))


@QUICK
@given(LOGS, st.permutations(measures.SERIES_DIMENSIONS), st.integers(1, 4))
def test_every_group_is_a_log_of_its_own_and_groups_add_up(
    log: list[Any], dimensions: list[str], size: int
) -> None:
    aggregate, series, _ = counted(log)
    places = [measures.SERIES_DIMENSIONS.index(name) for name in dimensions[:size]]
    groups = by_series(aggregate, series, dimensions[:size])
    rows_of: dict[tuple[str, ...], list[Row]] = {}
    for row in recount(log).rows:
        rows_of.setdefault(tuple(row.series[at] for at in places), []).append(row)
    assert set(groups) == set(rows_of)
    for key, rows in rows_of.items():
        assert agrees(measures.measures(groups[key]), rows)
    assert whole(Aggregate.merged(list(groups.values()))).series.values.tolist() == (
        whole(aggregate).series.values.tolist()
    )


@QUICK
@given(LOGS, st.sampled_from([("customer",), ("model",), ("customer", "model")]))
def test_customers_have_requests_outcomes_and_tokens(
    log: list[Any], dimensions: tuple[str, ...]
) -> None:
    aggregate, _, customers = counted(log)
    groups = by_customer_model(aggregate, customers, dimensions)
    places = [("customer", "model").index(name) for name in dimensions]
    rows_of: dict[tuple[str, ...], list[Row]] = {}
    for row in recount(log).rows:
        if not row.probe:
            rows_of.setdefault(tuple(row.customer[at] for at in places), []).append(row)
    found = {key: measures.measures(group) for key, group in groups.items()}
    assert found == {key: must(rows) for key, rows in rows_of.items()}


def test_the_cache_hit_ratio_is_a_ratio_of_sums() -> None:
    # 90 of 100 and 0 of 900: the mean of the ratios would say 45 %
    aggregate, *_ = counted(
        [
            plain(NOON, input_tokens=100, cached_input_tokens=90),
            plain(NOON, input_tokens=900, cached_input_tokens=0),
        ]
    )
    assert measures.cache_hit_ratio(aggregate) == 0.09


def test_probes_count_for_availability_and_for_nothing_else() -> None:
    log = [
        plain(NOON),
        plain(NOON, outcome="server_error"),
        plain(NOON, probe=True),
        plain(NOON, probe=True, outcome="timeout"),
        plain(NOON, probe=True),
        plain(NOON, outcome="client_error"),  # the caller's fault: not in the denominator
    ]
    found = measures.measures(whole(counted(log)[0]))
    assert found["availability_ratio"] == 3 / 5
    assert found["requests"] == 3
    assert found["outcomes"]["timeout"] == 0
    assert found["tokens"]["input"] == 3 * 900
    assert found["ttft_seconds"]["count"] == 1


def test_only_probes_is_no_requests_and_yet_an_availability() -> None:
    found = measures.measures(whole(counted([plain(NOON, probe=True)])[0]))
    assert (found["requests"], found["availability_ratio"]) == (0, 1.0)
    assert "cache_hit_ratio" not in found
    assert found["ttft_seconds"] == {"count": 0}


def test_what_is_unknown_is_absent() -> None:
    nothing = measures.measures(Aggregate.empty())
    assert set(nothing) == {
        *("requests", "outcomes", "refused", "duplicates", "field_faults", "tokens"),
        *("known", "known_ratio", "estimated", "response_cache"),
        *("provider", "failures", "client_errors", "endings", "tier_changed"),
    }
    assert (nothing["refused"], nothing["duplicates"], nothing["known_ratio"]) == ({}, 0, {})
    only_refused = measures.measures(whole(rejection_counts({"not_json": 3})))
    assert only_refused == nothing | {"refused": {"not_json": 3}}
    only_duplicates = measures.measures(whole(rejection_counts({}, duplicates=2)))
    assert only_duplicates == nothing | {"duplicates": 2}
    # A caller's mistake tells nothing about our availability.
    mistake = measures.measures(whole(counted([plain(NOON, outcome="client_error")])[0]))
    assert "availability_ratio" not in mistake


@pytest.mark.parametrize("count", [1, 19, 20, 21, 100])
def test_a_percentile_carries_its_count_and_is_nearest_rank(count: int) -> None:
    ttfts_ms = [10 * number for number in range(1, count + 1)]
    found = measures.latency(counted([plain(NOON, ttft_ms=ttft) for ttft in ttfts_ms])[0], "ttft")
    assert found["count"] == count
    true_s = nearest_rank(ttfts_ms, 95) / 1_000
    assert true_s <= found["p95"] <= true_s * (1 + 1 / 128)


def test_good_requests_are_known_for_counted_thresholds_only() -> None:
    ttfts_ms = (50, 100, 200, 300, 400)
    aggregate, *_ = counted(
        [plain(NOON, ttft_ms=ttft, model=model) for ttft in ttfts_ms for model in "ab"]
    )
    assert measures.count_within(aggregate, "ttft", 100_000) == 4
    assert measures.count_within(whole(aggregate), "ttft", 300_000) == 8
    assert measures.count_within(aggregate, "ttft", 250_000) is None
    assert measures.count_within(aggregate, "duration", 300_000) is None
    assert measures.count_within(Aggregate.empty(), "ttft", 300_000) is None


def test_the_latencies_of_a_batch_are_known_of_its_tier_only() -> None:
    batch = plain(NOON, service_tier="batch", duration_ms=90_061_000, ttft_ms=5_000, stream=True)
    aggregate, series, _ = counted([plain(NOON, stream=True), batch])
    usual = without_apart_tiers(aggregate, series, {"batch"})
    fleet = measures.measures(whole(usual))
    assert (fleet["requests"], fleet["tokens"]["input"]) == (2, 1_800)
    assert (fleet["duration_seconds"]["count"], fleet["ttft_seconds"]["count"]) == (1, 1)
    assert fleet["duration_seconds"]["max"] < 3
    assert fleet["known_ratio"]["ttft"] == 1
    assert measures.count_within(whole(usual), "ttft", 300_000) == 1
    by_tier = by_series(aggregate, series, ("service_tier",))
    of_batch = measures.measures(by_tier[("batch",)])
    assert 90_061 <= of_batch["duration_seconds"]["p95"] <= 90_061 * (1 + 1 / 128)
    only = without_apart_tiers(aggregate, series, {"standard"})
    assert only is aggregate


def test_a_group_without_events_does_not_exist() -> None:
    columns = judge([]).columns
    assert by_series(Aggregate.empty(), columns.series, ("model",)) == {}
    assert by_series(Aggregate.empty(), [("a", "b", "c", "d")], ("model",)) == {}
    assert by_customer_model(Aggregate.empty(), [("ann", "a")], ("customer",)) == {}
