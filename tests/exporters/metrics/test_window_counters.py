"""Windows of what most events lack, against a plain recount: attempts, endings and others."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from exporters.catalogue.counters import WINDOW_COUNTER_SPECS
from exporters.server.collector import Collector
from streams.config.settings import Settings
from streams.events.fields import CLIENT_CLASSES, ELIGIBLE, ENDINGS, OUTCOMES
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

ATTEMPTS = "tokenpulse_window_provider_attempts"
ELIGIBLE_ATTEMPTS = "tokenpulse_window_provider_eligible_attempts"
AVAILABILITY = "tokenpulse_provider_availability_ratio"
ENDING_OF = {"success": "complete", "stream_error": "cut", "cancelled": "cancelled_after_first"}
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "fleet": (),
    "model": ("model",),
    "region": ("region",),
    "channel": ("channel",),
    "service_tier": ("service_tier",),
    "series": ("model", "region", "channel", "service_tier"),
}


def events_of_gateways(seed: int, count: int, from_s: float, to_s: float) -> list[dict[str, Any]]:
    """Random events, of which some have the fields that few gateways send."""
    chance = random.Random(seed)
    events = some_events(seed, count, from_s, to_s)
    for one in events:
        if chance.random() < 0.3:
            one["final"] = False
        if one.get("probe"):
            continue
        if chance.random() < 0.2 and one.get("final", True):
            one["served_from"] = "response_cache"
        if chance.random() < 0.5 and one["outcome"] in ENDING_OF:
            one["ending"] = ENDING_OF[one["outcome"]]
        if chance.random() < 0.5 and one["outcome"] == "client_error":
            one["error_class"] = chance.choice(["auth", "not_found"])
        if chance.random() < 0.2:
            one["requested_service_tier"] = "priority"
        if chance.random() < 0.3 and one["outcome"] == "success":
            one["first_visible_token_ms"] = round(chance.uniform(one["ttft_ms"], 9_000), 3)
            one["duration_ms"] = 10_000
    return events


def is_cached(one: dict[str, Any]) -> bool:
    """Return whether a gateway's response cache answered, so that no provider was asked."""
    return one["outcome"] == "success" and "served_from" in one


def recounted(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The samples of some events, by metric and further label."""
    asked = [one for one in events if not is_cached(one)]
    real = [one for one in events if not one.get("probe")]
    final = [one for one in real if one.get("final", True)]
    eligible = [one["outcome"] for one in asked if one["outcome"] in ELIGIBLE]
    return {
        "attempts": Counter(one["outcome"] for one in asked if not one.get("probe")),
        "eligible": len(eligible),
        "availability": eligible.count("success") / len(eligible) if eligible else None,
        "tokenpulse_window_endings": Counter(one["ending"] for one in final if "ending" in one),
        "tokenpulse_window_ending_output_tokens": sum(
            (
                Counter({one["ending"]: 0 if is_cached(one) else one["output_tokens"]})
                for one in final
                if "ending" in one
            ),
            Counter[str](),
        ),
        "tokenpulse_window_client_errors": Counter(
            one["error_class"] for one in final if "error_class" in one
        ),
        "changed": sum("requested_service_tier" in one for one in final),
    }


def by_label(samples: Samples, metric: str, label: str, scope: dict[str, str]) -> dict[str, float]:
    """The samples of one group of a metric, by its further label."""
    texts = {*OUTCOMES, *ENDINGS, *CLIENT_CLASSES}
    counts = {text: value(samples, metric, **scope, **{label: text}) for text in texts}
    return {text: count for text, count in counts.items() if count is not None}


def check_groups(samples: Samples, events: list[dict[str, Any]], window: str) -> None:
    """Compare all groups of a window, in all scopes."""
    differs = any(one.get("final") is False or is_cached(one) for one in events)
    for scope, dimensions in DIMENSIONS.items():
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for one in events:
            groups.setdefault(tuple(one[name] for name in dimensions), []).append(one)
        expected_series = 0
        for key, members in groups.items():
            labels = {"scope": scope, "window": window, **dict(zip(dimensions, key, strict=True))}
            told = recounted(members)
            if differs:
                assert by_label(samples, ATTEMPTS, "outcome", labels) == told["attempts"]
                assert value(samples, ELIGIBLE_ATTEMPTS, **labels) == told["eligible"]
                assert value(samples, AVAILABILITY, **labels) == told["availability"]
                expected_series += len(told["attempts"])
            for metric in ("endings", "ending_output_tokens"):
                name = f"tokenpulse_window_{metric}"
                assert by_label(samples, name, "ending", labels) == told[name]
            errors = "tokenpulse_window_client_errors"
            assert by_label(samples, errors, "class", labels) == told[errors]
            changed = value(samples, "tokenpulse_window_tier_changed", **labels)
            assert changed == (told["changed"] or None)
        # No group that is gone, and no outcome that did not occur, has a sample.
        of_scope = {("scope", scope), ("window", window)}
        assert expected_series == sum(of_scope <= labels for labels in named(samples, ATTEMPTS))


def test_windows_of_counters_equal_a_recount_while_they_roll(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["1m", "5m"], series_windows=["1m", "5m"])
    begin_s, minutes = NOW_S - 420, 7
    events = events_of_gateways(11, 220, begin_s, NOW_S - 180)  # the last minutes are silent
    # One model only fails, and another one serves its requests in the end.
    for one in events[::40]:
        one |= {"model": "broken", "outcome": "timeout", "final": False}
        one.pop("ending", None), one.pop("error_class", None), one.pop("probe", None)

    def arrived(partition: int, until_s: float) -> list[dict[str, Any]]:
        return [one for one in events[partition::2] if one["ended_at"] / 1_000 < until_s]

    async def run() -> None:
        writer = StateWriter(settings)
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        for minute in range(1, minutes + 1):
            at_s = begin_s + 60 * minute
            for partition in range(2):
                before = len(arrived(partition, at_s - 60))
                await writer.write(partition, arrived(partition, at_s)[before:], at_s)
            page = (await collector.collect(right_clock(at_s))).page
            samples = parsed(page.text(openmetrics=False))
            for window in ("1m", "5m"):
                start = "tokenpulse_window_start_timestamp_seconds"
                from_s = number(samples, start, window=window)
                counted = [one for one in events if from_s <= one["ended_at"] / 1_000 < at_s]
                check_groups(samples, counted, window)
        await writer.close()
        await client.aclose()

    asyncio.run(run())


def tiny(settings: Settings, **changes: Any) -> Samples:
    """The samples of a success and a failure, of which the failure has further fields."""
    failed = event(NOW_S, outcome="timeout", model="opus", **changes)
    write_state(settings, {0: [event(NOW_S, model="sonnet"), failed]})
    return samples_of(settings)


def test_events_without_these_fields_have_none_of_these_metrics(
    configured: Callable[..., Any],
) -> None:
    samples = tiny(configured())
    assert not {spec.name for spec in WINDOW_COUNTER_SPECS} & {name for name, _ in samples}


def test_a_failed_attempt_and_its_fallback_are_one_available_request(
    configured: Callable[..., Any],
) -> None:
    samples = tiny(configured(windows=["5m"]), final=False)
    fleet = {"scope": "fleet", "window": "5m"}
    assert value(samples, "tokenpulse_availability_ratio", **fleet) == 1
    assert value(samples, AVAILABILITY, **fleet) == 0.5
    opus, sonnet = (
        {"scope": "model", "window": "5m", "model": name} for name in ("opus", "sonnet")
    )
    # opus has no request of a customer, so only the providers' view has it.
    assert value(samples, "tokenpulse_window_eligible_requests", **opus) is None
    assert value(samples, AVAILABILITY, **opus) == 0
    assert value(samples, AVAILABILITY, **sonnet) == 1
    assert by_label(samples, ATTEMPTS, "outcome", opus) == {"timeout": 1}


def test_a_provider_that_was_never_asked_has_no_availability(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["5m"])
    cached = event(NOW_S, model="opus", served_from="response_cache")
    write_state(settings, {0: [cached, event(NOW_S, model="sonnet")]})
    samples = samples_of(settings)
    opus, sonnet = (
        {"scope": "model", "window": "5m", "model": name} for name in ("opus", "sonnet")
    )
    assert value(samples, "tokenpulse_availability_ratio", **opus) == 1
    assert value(samples, AVAILABILITY, **opus) is None
    # The documented query leaves such a model out instead of taking the customers' ratio for it.
    assert value(samples, ELIGIBLE_ATTEMPTS, **opus) == 0
    assert (
        value(samples, AVAILABILITY, **sonnet),
        by_label(samples, ATTEMPTS, "outcome", opus),
    ) == (
        1,
        {},
    )


def test_the_first_visible_token_has_percentiles_of_its_own(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["5m"])
    visible_ms = [2_000, 3_000, 10_000]
    seen = [event(NOW_S, first_visible_token_ms=at_ms, duration_ms=20_000) for at_ms in visible_ms]
    write_state(settings, {0: [*seen, *(event(NOW_S) for _ in range(17))]})
    samples = samples_of(settings)
    fleet = {"scope": "fleet", "window": "5m"}
    assert value(samples, "tokenpulse_first_visible_samples", **fleet) == 3
    assert value(samples, "tokenpulse_ttft_samples", **fleet) == 20
    for quantile, truth_s in (("0.5", 3), ("0.95", 10), ("0.99", 10)):
        found = value(samples, "tokenpulse_first_visible_seconds", quantile=quantile, **fleet)
        assert found == pytest.approx(truth_s, rel=0.008)
    ttft_s = value(samples, "tokenpulse_ttft_seconds", quantile="0.99", **fleet)
    assert ttft_s == pytest.approx(0.2, rel=0.008)


def test_a_window_without_these_counters_is_as_large_as_before(
    configured: Callable[..., Any],
) -> None:
    # One attempt that was not final adds two samples a group, and one an outcome that occurred.
    settings = configured(windows=["5m"], series_windows=[], customer_windows=[])
    write_state(settings, {0: [event(NOW_S)]})
    before = export(settings).page.samples
    write_state(settings, {0: [event(NOW_S, final=False)]})
    added = export(settings).page.samples - before
    scopes, windows, counters_of_totals = 5, 3, 3
    assert added == scopes * windows * 3 + counters_of_totals


def test_failures_are_exported_by_whether_they_were_streamed(
    configured: Callable[..., Any],
) -> None:
    settings = configured(windows=["5m"], series_windows=[], customer_windows=[])
    failed = [
        event(NOW_S, outcome="timeout", stream=True),
        event(NOW_S, outcome="stream_error"),  # only a streamed answer ends early
        event(NOW_S, outcome="server_error", stream=False),
        event(NOW_S, outcome="server_error"),  # not known
        event(NOW_S, outcome="server_error", stream=False, probe=True),
        event(NOW_S, outcome="client_error", stream=True),  # the caller's fault
    ]
    write_state(settings, {0: [event(NOW_S), *failed]})
    found = {
        dict(labels)["stream"]: count
        for labels, count in named(samples_of(settings), "tokenpulse_failures_total").items()
    }
    assert found == {"streamed": 2, "unstreamed": 1}
