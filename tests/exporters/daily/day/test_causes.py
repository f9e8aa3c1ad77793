"""What moved a metric, and how much of that is mix and how much is rate."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from exporters.daily.day.attribution import parts_of
from exporters.daily.day.calendar import CalendarDay
from exporters.daily.day.causes import GroupTraffic, causes, find_moves, with_customer_name
from exporters.daily.day.counts import Counts, p95_s
from exporters.daily.day.facts import BoardTargets, Day, DayState, Metric, MetricCause
from exporters.daily.day.history import DayCounts, traffic_of
from exporters.daily.day.metrics import values_of
from exporters.daily.day.stretches import StretchReader
from exporters.daily.day.text import PROBES
from exporters.daily.day.trends import Base
from streams.state import histogram
from streams.state.registry import OTHER
from streams.state.tables import Table
from tests.support.checks import not_none
from tests.support.exporter_state import token_of

TARGETS = BoardTargets(0.3, 0.05, 0.999, 0.4, (0.4, 0.6))


def judged(eligible: int, successes: int) -> Counts:
    return Counts(requests=eligible, eligible=eligible, successes=successes)


def cached(input_tokens: int, cached_tokens: int) -> Counts:
    return Counts(
        requests=1,
        eligible=1,
        successes=1,
        input_tokens=input_tokens,
        cached_tokens=cached_tokens,
        cached_of_tokens=input_tokens,
    )


def timed(**seconds: Any) -> Counts:
    """TTFTs in seconds, given as s0_25=100 for a hundred requests of 0.25 s."""
    table = buckets({float(key[1:].replace("_", ".")): n for key, n in seconds.items()})
    n = int(table.values.sum())
    return Counts(requests=n, eligible=n, successes=n, ttft=table)


def buckets(by_s: dict[float, int]) -> Table:
    values = np.array([round(at * 1e9) for at in by_s], np.int64)
    return Table.summed(histogram.bucket_of(values), np.array(list(by_s.values()), np.int64))


def read(seconds: float) -> float:
    """A value as the histogram gives it back."""
    return not_none(p95_s(buckets({seconds: 1})))


# -- the parts -------------------------------------------------------------------------------------


def test_simpson_every_model_got_better_and_the_fleet_got_worse() -> None:
    # before:  small  900 of 1000 requests, 99 % good    now:  small  500 of 1000, 99.4 % good
    #          large  100 of 1000, 90 % good                   large  500 of 1000, 92 % good
    # fleet:   98.1 %                                            95.7 %
    # By hand, shares and ratios as fractions, the middle of the fleet being 96.9 %:
    #   small  rate = (0.9 + 0.5)/2 * 0.004 = +0.0028   mix = -0.4 * (0.992 - 0.969) = -0.0092
    #   large  rate = (0.1 + 0.5)/2 * 0.020 = +0.0060   mix = +0.4 * (0.910 - 0.969) = -0.0236
    before = {"small": judged(900, 891), "large": judged(100, 90)}
    now = {"small": judged(500, 497), "large": judged(500, 460)}
    small, large = sorted(
        parts_of("availability_ratio", before, now, 1), key=lambda one: one.name, reverse=True
    )
    assert [small.rate, small.mix] == pytest.approx([0.0028, -0.0092])
    assert [large.rate, large.mix] == pytest.approx([0.0060, -0.0236])
    assert small.total + large.total == pytest.approx(0.957 - 0.981)


def test_a_name_that_is_new_or_gone_is_all_mix() -> None:
    before = {"old": judged(100, 90), "same": judged(100, 100)}
    now = {"new": judged(100, 80), "same": judged(100, 100)}
    found = {one.name: one for one in parts_of("availability_ratio", before, now, 1)}
    assert {one.rate for one in found.values()} == {0}
    assert sum(one.total for one in found.values()) == pytest.approx(0.9 - 0.95)


groups = st.dictionaries(
    st.sampled_from("abcde"),
    st.tuples(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 10_000)),
    min_size=1,
)


@given(groups, groups, st.sampled_from(["availability_ratio", "cache_hit_ratio", "tokens"]))
def test_the_parts_of_all_groups_add_up_to_the_change(
    before: dict[str, tuple[int, float, int]],
    now: dict[str, tuple[int, float, int]],
    metric: Metric,
) -> None:
    def counts(of: dict[str, tuple[int, float, int]]) -> dict[str, Counts]:
        return {
            name: Counts(
                requests=n,
                eligible=n,
                successes=int(n * share),
                input_tokens=more,
                cached_tokens=int(more * share),
                cached_of_tokens=more,
                output_tokens=n,
            )
            for name, (n, share, more) in of.items()
            if n or metric != "tokens"
        }

    sides = counts(before), counts(now)
    parts = parts_of(metric, *sides, 1)
    whole = [Counts.sum(one.values()) for one in sides]
    values = [getattr(one, metric) for one in whole]
    if None in values:
        assert parts == []
        return
    assert sum(one.total for one in parts) == pytest.approx(values[1] - values[0], abs=1e-6)
    for one in parts:
        assert one.total == one.mix + one.rate


@given(
    st.lists(st.tuples(st.integers(1, 2_000), st.integers(1, 50)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 2_000), st.integers(1, 50)), min_size=1, max_size=8),
)
def test_a_single_group_makes_the_whole_change_of_a_percentile_by_rate(
    before: list[tuple[int, int]], now: list[tuple[int, int]]
) -> None:
    first, second = (
        {"only": Counts(requests=1, ttft=buckets({at / 1e3: n for at, n in side}))}
        for side in (before, now)
    )
    [part] = parts_of("ttft_p95_s", first, second, 1)
    change = not_none(p95_s(second["only"].ttft)) - not_none(p95_s(first["only"].ttft))
    assert part.rate == pytest.approx(change)
    assert part.mix == pytest.approx(0)


def test_a_percentile_that_moved_by_mix_alone_and_by_rate_alone() -> None:
    # 900 fast requests and 40 slow ones: the slow 4 % lie above the P95. With 60 of 960 they
    # reach into it, although no model changed: all mix.
    before = {"fast": timed(s0_1=900), "slow": timed(s0_8=40)}
    mixed = {"fast": timed(s0_1=900), "slow": timed(s0_8=60)}
    found = {one.name: one for one in parts_of("ttft_p95_s", before, mixed, 1)}
    assert found["slow"].rate == 0
    assert found["slow"].mix == pytest.approx(read(0.8) - read(0.1))
    # The same traffic, and the fast model became slow: all rate.
    slower = {"fast": timed(s0_3=900), "slow": timed(s0_8=40)}
    found = {one.name: one for one in parts_of("ttft_p95_s", before, slower, 1)}
    assert found["fast"].mix == 0
    assert found["fast"].rate == pytest.approx(read(0.3) - read(0.1))
    assert found["slow"].total == 0


def test_tokens_are_requests_times_their_size() -> None:
    before = {"a": Counts(requests=200, input_tokens=20_000)}  # of two days
    now = {"a": Counts(requests=150, input_tokens=18_000)}
    [part] = parts_of("tokens", before, now, 2)
    # 100 a day of 100 tokens, then 150 of 120: 50 more of 110 each, and 20 more for 125 of them.
    assert (part.mix, part.rate) == (5_500, 2_500)
    assert part.total == 18_000 - 10_000


# -- the causes ------------------------------------------------------------------------------------


def traffic(by: dict[str, dict[str, Counts]], days: int = 1) -> GroupTraffic:
    """`by`: dimension -> name -> counts; the fleet is the sum of the first dimension."""
    first = next(iter(by.values()))
    return GroupTraffic(Counts.sum(first.values()), by, days)


def day_of(counts: Counts, state: DayState = "sealed") -> Day:
    return Day("2026-11-10", 0, 86_400, state, True, values_of(counts, TARGETS))


def explained(
    now: GroupTraffic,
    before: GroupTraffic,
    days: int = 28,
    name_of: type[str] | Callable[..., Any] = str,
) -> tuple[MetricCause, ...]:
    usual = [day_of(before.fleet)] * days
    found = causes(day_of(now.fleet), now, before, Base(tuple(usual)), TARGETS)
    return tuple(with_customer_name(cause, name_of) for cause in found)


def test_the_dimension_is_the_one_in_which_a_name_explains_more_than_its_share() -> None:
    # Nearly only eu got worse, in both models alike; the one channel explains all, as it must.
    before = traffic(
        {
            "model": {"large": judged(10_000, 9_990), "small": judged(10_000, 9_990)},
            "region": {
                "eu": judged(4_000, 3_996),
                "us": judged(8_000, 7_992),
                "ap": judged(8_000, 7_992),
            },
            "channel": {"direct": judged(20_000, 19_980)},
        }
    )
    now = traffic(
        {
            "model": {"large": judged(10_000, 9_885), "small": judged(10_000, 9_885)},
            "region": {
                "eu": judged(4_000, 3_796),
                "us": judged(8_000, 7_982),
                "ap": judged(8_000, 7_992),
            },
            "channel": {"direct": judged(20_000, 19_770)},
        }
    )
    [cause] = explained(now, before)
    assert (cause.metric, cause.dimension, cause.name) == ("availability_ratio", "region", "eu")
    assert cause.total == pytest.approx(-0.01)
    assert cause.rate == pytest.approx(-0.01)
    assert cause.words == (
        "Availability fell by 1 point to 98.8 %: region eu took 1 point, all by rate "
        "(its own availability fell from 99.9 % to 94.9 %)."
    )


def test_within_the_usual_spread_nothing_has_a_cause() -> None:
    before = traffic({"model": {"a": cached(100_000, 45_000), "b": cached(100_000, 45_000)}}, 28)
    now = traffic({"model": {"a": cached(100_000, 43_000), "b": cached(100_000, 45_000)}})
    restless = [
        day_of(cached(200_000, 90_000 + shift)) for shift in (-4_000, -2_000, 0, 2_000, 4_000) * 5
    ]
    day = replace(day_of(now.fleet))
    assert find_moves(day, now, before, Base(tuple(restless)))[0:] == [
        one for one in find_moves(day, now, before, Base(tuple(restless))) if one.metric == "tokens"
    ]
    calm = [day_of(cached(200_000, 90_000))] * 28
    moved = [one.metric for one in find_moves(day, now, before, Base(tuple(calm)))]
    assert "cache_hit_ratio" in moved


def test_a_missed_target_comes_before_a_larger_move() -> None:
    before = GroupTraffic(timed(s0_25=1_000), {"model": {"a": timed(s0_25=1_000)}}, 1)
    base = replace(
        before.fleet, input_tokens=100_000, cached_tokens=50_000, cached_of_tokens=100_000
    )
    after = replace(
        timed(s0_32=1_000), input_tokens=100_000, cached_tokens=90_000, cached_of_tokens=100_000
    )
    moved = find_moves(
        day_of(after),
        GroupTraffic(after, {}),
        GroupTraffic(base, {}),
        Base((day_of(base),) * 28),
    )
    assert [(one.metric, one.missed) for one in moved] == [
        ("ttft_p95_s", True),
        ("cache_hit_ratio", False),
    ]
    assert moved[1].spreads > moved[0].spreads


def test_a_running_day_is_not_asked_why_it_has_fewer_tokens() -> None:
    before, now = cached(1_000_000, 500_000), cached(400_000, 200_000)
    moved = find_moves(
        day_of(now, "running"),
        GroupTraffic(now, {}),
        GroupTraffic(before, {}),
        Base((day_of(before),) * 28),
    )
    assert moved == []


def test_the_first_days_of_all_are_no_norm_of_tokens() -> None:
    before, now = cached(400_000, 200_000), cached(1_000_000, 500_000)
    for days, metrics in ((1, []), (2, []), (3, ["tokens"])):
        base = Base((day_of(before),) * days)
        moved = find_moves(day_of(now), GroupTraffic(now, {}), GroupTraffic(before, {}), base)
        assert [one.metric for one in moved] == metrics, days


def test_customers_have_no_probes_so_these_stand_beside_them() -> None:
    fleet = [judged(1_100, 1_099), judged(1_100, 1_059)]
    sides = [
        GroupTraffic(
            one,
            {"customer": {"t1": judged(500, 500), "t2": judged(500, 499)}, "model": {"m": one}},
        )
        for one in fleet
    ]
    [cause] = explained(sides[1], sides[0], name_of=str)
    assert (cause.dimension, cause.name) == ("customer", PROBES)
    assert cause.total == pytest.approx(-40 / 1_100)
    assert (
        ": synthetic checks took 3.6 points, all by rate (their own availability fell"
        in cause.words
    )


def test_a_customer_is_told_by_its_name() -> None:
    acme, globex = token_of("acme"), token_of("globex")
    before = traffic({"customer": {acme: cached(1_000, 500), globex: cached(9_000, 4_500)}})
    now = traffic({"customer": {acme: cached(1_000, 0), globex: cached(9_000, 4_500)}})
    [cause] = explained(now, before, name_of={acme: "Acme", globex: "Globex"}.get)
    assert (cause.dimension, cause.name) == ("customer", "Acme")
    assert cause.words == (
        "Cache hit rate fell by 5 points to 45 %: customer Acme took 5 points, all by rate "
        "(its own cache hit rate fell from 50 % to 0 %)."
    )


def test_a_second_name_is_told_where_it_moved_much_and_three_are_the_most() -> None:
    names = "abcd"
    before = traffic({"model": {name: cached(1_000, 500) for name in names}})
    now = traffic({"model": {name: cached(1_000, 100 + 20 * at) for at, name in enumerate(names)}})
    found = explained(now, before)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert sum(Fraction(one.total) for one in found) < 0
    # The change is stated once; the further names refer to it.
    assert [one.words.startswith("Cache hit rate fell by ") for one in found] == [
        True,
        False,
        False,
    ]
    assert found[1].words.startswith("Model b took ")
    assert " of this change in cache hit rate, all by rate (" in found[1].words


def test_rate_and_mix_are_told_with_what_they_come_from() -> None:
    # large: from 10 % to 50 % of the traffic, and better itself; the example of docs/daily.md.
    before = traffic({"model": {"small": judged(9_000, 8_910), "large": judged(1_000, 900)}})
    now = traffic({"model": {"small": judged(5_000, 4_970), "large": judged(5_000, 4_600)}})
    [cause] = [one for one in explained(now, before) if one.name == "large"]
    assert cause.words == (
        "Availability fell by 2.4 points to 95.7 %: model large took 1.8 points: +0.6 points by "
        "rate (its own availability rose from 90 % to 92 %) and -2.4 points by mix (share of "
        "the traffic rose from 10 % to 50 %)."
    )


def test_a_new_name_a_gone_one_and_all_others_are_told_as_such() -> None:
    before = traffic({"model": {"old": judged(500, 500), "same": judged(500, 500)}})
    now = traffic({"model": {OTHER: judged(500, 400), "same": judged(500, 500)}})
    cause = next(one for one in explained(now, before) if one.name == OTHER)
    assert cause.words.endswith(
        ": all other models together took 7.5 points, all by mix (new, with 50 % of the traffic)."
    )
    cause = next(one for one in explained(before, now) if one.name == OTHER)
    assert "all other models together added 7.5 points" in cause.words
    assert "(gone, with 50 % of the traffic before)" in cause.words


def test_names_that_were_added_up_on_the_days_before_are_no_change() -> None:
    # Of the days before, only the largest names are written down: b was one of the others.
    now = traffic({"customer": {"a": cached(6_000, 3_000), "b": cached(4_000, 1_000)}})
    day = CalendarDay("2026-11-09", 0, 86_400)
    names = {"a": cached(6_000, 3_000), OTHER: cached(4_000, 1_000)}
    details = {day.date: (Counts.sum(names.values()), {"customer": names})}
    before = traffic_of(
        [DayCounts(day, None, None, None)], details, StretchReader(Redis(), "", "", ()).scopes
    )
    folded = now.fold_names(before.stored_names).groups["customer"]
    assert set(folded) == {"a", OTHER}
    assert all(folded[name].cached_tokens == names[name].cached_tokens for name in names)
    parts = parts_of("cache_hit_ratio", before.groups["customer"], folded, 1)
    assert [one.total for one in parts] == [0, 0]
