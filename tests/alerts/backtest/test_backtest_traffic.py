"""Rules that need no policy over recorded days: client errors, and unreported cached tokens."""

from typing import Any

from alerts.backtest.run import Backtest
from tests.support.backtests import T0, UPTIME, Event, backtested, event, of_rule, policy

HOUR_S = 3_600
BEGIN_S, END_S = T0 + 4 * HOUR_S, T0 + 5 * HOUR_S  # of the incident
EVERY_S = 10
CACHE = {
    "name": "cache-hit",
    "indicator": {"kind": "cache_hit_ratio", "window": "1h"},
    "levels": [{"severity": "page", "below": "30%", "for": "15m"}],
}


def hours_of_four_models(**bad: Any) -> list[Event]:
    """Five hours of four models with 360 requests an hour each; `bad`: fields of one in the fifth
    hour."""
    events = []
    for at_s in range(T0, END_S + 600, EVERY_S):
        for number, model in enumerate(("a", "b", "c", "d")):
            is_bad = model == "b" and BEGIN_S <= at_s < END_S
            more = {"customer_id": f"customer-{number}", "region": "eu"} | (bad if is_bad else {})
            events.append(event(at_s + number, model=model, **more))
    return events


def firings(found: Backtest, rule: str) -> list[tuple[dict[str, str], int, int]]:
    """Return the series, begin and end of each firing, in seconds after the incident's begin.

    `rule`: alert, severity and label `window` if it has one.
    """
    return [
        (
            dict(episode.labels),
            episode.fired_at_s - BEGIN_S,
            (episode.resolved_at_s or found.to_s) - BEGIN_S,
        )
        for watched in found.watched
        for episode in watched.episodes()
        if rule
        == " ".join(
            [
                watched.alert.name.removeprefix("Tokenpulse"),
                watched.alert.severity,
                watched.alert.labels.get("window", ""),
            ]
        ).rstrip()
    ]


def test_an_hour_of_404_for_a_quarter_of_the_traffic_pages_for_its_model() -> None:
    found = backtested(hours_of_four_models(outcome="client_error"), policy(UPTIME), BEGIN_S)
    ((series, fired_s, ended_s),) = firings(found, "ClientErrorsJump page 5m")
    assert series == {"scope": "model", "model": "b"}
    # Nine tenths of five minutes, for one minute; the numbers change every ten seconds.
    assert 270 + 60 < fired_s <= 270 + 60 + 40
    assert HOUR_S <= ended_s <= HOUR_S + 100
    ((series, fired_s, _),) = firings(found, "ClientErrorsJump ticket 5m")
    assert series == {"scope": "model", "model": "b"}
    assert 150 + 300 < fired_s <= 150 + 300 + 40
    ((series, fired_s, _),) = firings(found, "ClientErrorsJump ticket 1h")
    assert series == {"scope": "customer", "customer": "customer-1"}
    assert 1_800 + 300 < fired_s <= 1_800 + 300 + 40
    # No availability shows it.
    for watched in found.watched:
        assert watched.alert.name == "TokenpulseClientErrorsJump" or not watched.episodes()


def test_cancelled_requests_are_no_client_errors() -> None:
    found = backtested(hours_of_four_models(outcome="cancelled"), policy(UPTIME), BEGIN_S)
    assert all(not watched.episodes() for watched in found.watched)


def test_rate_limited_requests_are_no_client_errors_and_page_under_their_own_name() -> None:
    found = backtested(hours_of_four_models(outcome="rate_limited"), policy(UPTIME), BEGIN_S)
    ((series, fired_s, _),) = firings(found, "RateLimitedJump page 5m")
    assert series == {"scope": "model", "model": "b"}
    assert 270 + 60 < fired_s <= 270 + 60 + 40
    ((series, _, _),) = firings(found, "RateLimitedJump ticket 1h")
    assert series == {"scope": "customer", "customer": "customer-1"}
    for watched in found.watched:
        assert watched.alert.name == "TokenpulseRateLimitedJump" or not watched.episodes()


def hours_of_three_customers(last_hours: dict[str, float]) -> list[Event]:
    """Six hours of three customers with 600 requests an hour each; `last_hours`: requests an hour
    from the fifth on, as a share of the usual ones."""
    return [
        event(T0 + hour * HOUR_S + at * 6 / share + late_s, customer_id=customer, model="large")
        for late_s, customer in enumerate(("a", "b", "c"))
        for hour in range(6)
        for share in [last_hours.get(customer, 1.0) if hour >= 4 else 1.0]
        for at in range(round(600 * share))
    ]


def test_a_customer_that_sends_ten_times_as_much_is_a_ticket() -> None:
    found = backtested(hours_of_three_customers({"b": 10.0}), policy(UPTIME), BEGIN_S)
    ((series, fired_s, _),) = firings(found, "CustomerFlood ticket")
    assert series == {"customer": "b"}
    # Five times as many beside the others are reached after four ninths of the hour.
    assert abs(fired_s - 1_600 - 300) <= 40


def test_a_customer_that_sends_no_more_requests_is_a_ticket() -> None:
    found = backtested(hours_of_three_customers({"b": 0.0}), policy(UPTIME), BEGIN_S)
    ((series, fired_s, _),) = firings(found, "CustomerSilent ticket")
    assert series == {"customer": "b"}
    # Less than 1 % of its requests of an hour are left.
    assert 3_540 + 300 <= fired_s <= HOUR_S + 300


def minutes_of_tokens(**last_hour: int) -> list[Event]:
    """Two hours with a request every 10 s; `last_hour`: cached tokens of the second, if known."""
    return [
        event(
            T0 + at_s,
            input_tokens=1_000,
            **({"cached_input_tokens": 600} if at_s < HOUR_S else last_hour),
        )
        for at_s in range(0, 2 * HOUR_S, EVERY_S)
    ]


def test_a_source_that_stops_reporting_is_a_ticket_and_no_page_about_the_cache() -> None:
    found = backtested(minutes_of_tokens(), policy(CACHE))
    ((series, fired_s, _),) = firings(found, "CachedTokensUnreported ticket")
    assert series == {"model": "large"}
    # Half of an hour is known half an hour later; it must last for five minutes.
    assert 1_800 + 300 < fired_s + 3 * HOUR_S <= 1_800 + 300 + 40
    assert not of_rule(found, "TokenpulseCacheHitLow").episodes()


def test_a_cache_that_is_lost_is_a_page_and_no_ticket_about_its_source() -> None:
    found = backtested(minutes_of_tokens(cached_input_tokens=0), policy(CACHE))
    assert not of_rule(found, "TokenpulseCachedTokensUnreported").episodes()
    ((_, fired_s, _),) = firings(found, "CacheHitLow page")
    assert 1_800 + 900 < fired_s + 3 * HOUR_S <= 1_800 + 900 + 40


def test_a_source_that_never_reported_causes_no_alert() -> None:
    events = [
        {key: value for key, value in one.items() if key != "cached_input_tokens"}
        for one in minutes_of_tokens()
    ]
    found = backtested(events, policy(CACHE))
    assert all(not watched.episodes() for watched in found.watched)
