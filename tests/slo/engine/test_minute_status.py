"""What each contract style makes of the same kind of counts; every example computed by hand."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.engine.credits import credit, credit_share, credits_due
from slo.engine.minute_status import Attainment, MinuteStatus, burn_rate, remaining_budget
from slo.policy.indicators import (
    LatencyRatio,
    MinuteUptime,
    RequestRatio,
    SlicePercentile,
    SliceRatioMean,
    SliceSpeed,
)
from slo.policy.loading import as_policy, load_policy
from slo.policy.policy import Policy
from slo.policy.units import Money
from tests.support.objective_oracle import (
    Latencies,
    Requests,
    latency_ratio,
    minute_statuses,
    percentile_kept,
    request_ratio,
    slice_ratio_mean,
    slice_status,
    uptime,
)

UP, DOWN, UNKNOWN, EXCLUDED = (
    MinuteStatus.UP,
    MinuteStatus.DOWN,
    MinuteStatus.UNKNOWN,
    MinuteStatus.EXCLUDED,
)
SLICES_OF_A_MONTH = 30 * 24 * 12
MINUTES_OF_A_MONTH = 30 * 24 * 60


def objective(preset: str, name: str = "uptime") -> Any:
    [found] = [one for one in load_policy(preset).error_budget_objectives() if one.name == name]
    return found


def minutes(**changes: Any) -> MinuteUptime:
    return MinuteUptime(kind="minute_verdicts", **{"down_above": "5%"} | changes)


def share(attainment: Attainment) -> Fraction:
    assert attainment.ratio is not None
    return attainment.ratio


# --- Bedrock style: the mean of five-minute success ratios


def test_bedrock_weighs_every_five_minutes_alike() -> None:
    #  one slice of 10 requests all failed, one of 1,000,000 half failed, 8,638 quiet ones
    slices = [Requests(10, 10), Requests(1_000_000, 500_000)]
    slices += [Requests(0, 0)] * (SLICES_OF_A_MONTH - 2)
    found = slice_ratio_mean(objective("bedrock-style").indicator, slices)
    assert found.ratio == 1 - Fraction(3, 2) / 8640  # 99.98 %, though half of all failed


def test_bedrock_credits_begin_below_the_limit_not_at_it() -> None:
    #  0.1 % of 8,640 slices are 8.64: with 8 wholly failed ones 99.907 %, with 9 99.896 %
    terms = objective("bedrock-style")

    def month(failed_slices: int) -> Fraction:
        slices = [Requests(1, 1)] * failed_slices
        slices += [Requests(1, 0)] * (SLICES_OF_A_MONTH - failed_slices)
        return share(slice_ratio_mean(terms.indicator, slices))

    percents = {8: 0, 9: 10, 86: 10, 87: 25, 432: 25, 433: 100}
    assert {n: credit_share(terms.sla, month(n)) * 100 for n in percents} == percents
    assert month(432) == Fraction(95, 100)


def test_bedrock_pays_nothing_up_to_one_dollar() -> None:
    terms = objective("bedrock-style").sla
    below = Fraction(995, 1000)  # 10 %
    assert credit(terms, below, Money(Decimal(10), "USD")) == (Decimal(0), "USD")
    assert credit(terms, below, Money(Decimal("10.10"), "USD")) == (Decimal("1.01"), "USD")


def test_an_empty_slice_is_what_the_policy_says() -> None:
    slices = [Requests(4, 1), Requests(0, 0), None]
    means = {
        unknown: slice_ratio_mean(
            SliceRatioMean(kind="slice_ratio_mean", unknown=unknown), slices
        ).ratio
        for unknown in ("up", "down", "excluded")
    }
    assert means == {"up": Fraction(7, 8), "down": Fraction(3, 8), "excluded": Fraction(3, 4)}


# --- Gemini style: five consecutive minutes above 5 %


def test_gemini_forgives_four_bad_minutes_and_counts_all_of_five() -> None:
    bad, good = Requests(100, 6), Requests(100, 5)  # exactly 5 % is not over 5 %
    indicator = objective("gemini-style").indicator
    day = [good, *[bad] * 4, good, *[bad] * 5, good]
    assert minute_statuses(indicator, day) == [UP] * 6 + [DOWN] * 5 + [UP]
    assert uptime(minute_statuses(indicator, day), "up").ratio == Fraction(7, 12)


def test_gemini_counts_a_silent_minute_as_up_and_lets_it_end_a_run() -> None:
    bad, silent = Requests(100, 100), Requests(0, 0)
    indicator = objective("gemini-style").indicator
    verdicts = minute_statuses(indicator, [*[bad] * 4, silent, *[bad] * 4])
    assert verdicts == [UP] * 4 + [UNKNOWN] + [UP] * 4
    assert uptime(verdicts, indicator.unknown).ratio == 1


def test_gemini_owes_ten_percent_from_217_minutes_of_downtime() -> None:
    #  0.5 % of 43,200 minutes are 216
    terms = objective("gemini-style")

    def month(down_minutes: int) -> Fraction:
        counts = [Requests(20, 2)] * down_minutes
        counts += [Requests(20, 1)] * (MINUTES_OF_A_MONTH - down_minutes)
        return share(uptime(minute_statuses(terms.indicator, counts), terms.indicator.unknown))

    percents = {216: 0, 217: 10, 432: 10, 433: 25, 2_160: 25, 2_161: 50}
    assert {n: credit_share(terms.sla, month(n)) * 100 for n in percents} == percents


def test_maintenance_is_neither_up_nor_down() -> None:
    bad = Requests(10, 10)
    verdicts = minute_statuses(minutes(), [Requests(10, 0), bad, None, None])
    assert verdicts == [UP, DOWN, EXCLUDED, EXCLUDED]
    assert uptime(verdicts, "excluded") == Attainment(Fraction(1), 2)


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [("up", Fraction(2, 3)), ("down", Fraction(1, 3)), ("excluded", Fraction(1, 2))],
)
def test_an_unknown_minute_is_what_the_policy_says(unknown: Any, expected: Fraction) -> None:
    few = Requests(9, 9)
    verdicts = minute_statuses(minutes(min_samples=10), [Requests(10, 0), Requests(10, 10), few])
    assert verdicts == [UP, DOWN, UNKNOWN]
    assert uptime(verdicts, unknown).ratio == expected


def test_nothing_known_is_not_healthy() -> None:
    assert uptime([UNKNOWN, EXCLUDED], "excluded").ratio is None
    assert credit_share(objective("gemini-style").sla, None) == 0


_MINUTES = st.lists(
    st.one_of(st.none(), st.sampled_from([Requests(0, 0), Requests(20, 1), Requests(20, 2)])),
    max_size=40,
)


@settings(deadline=None)
@given(_MINUTES, st.integers(1, 6))
def test_a_minute_is_down_just_if_it_stands_in_a_long_enough_run(
    counts: list[Requests | None], run: int
) -> None:
    verdicts = minute_statuses(minutes(down_run=run), counts)

    def is_bad(at: int) -> bool:
        return 0 <= at < len(counts) and counts[at] == Requests(20, 2)

    for at, verdict in enumerate(verdicts):
        is_down = any(
            all(is_bad(other) for other in range(first, first + run))
            for first in range(at - run + 1, at + 1)
        )
        if counts[at] is None:
            assert verdict is EXCLUDED
        elif counts[at] == Requests(0, 0):
            assert verdict is UNKNOWN
        else:
            assert verdict is (DOWN if is_down else UP)


@settings(deadline=None)
@given(_MINUTES, st.integers(1, 6), st.integers(0, 40), st.integers(0, 40))
def test_a_period_with_run_less_one_minutes_around_it_is_judged_as_within_the_whole(
    counts: list[Requests | None], run: int, first: int, last: int
) -> None:
    whole = minute_statuses(minutes(down_run=run), counts)
    around = max(0, first - run + 1)
    part = minute_statuses(minutes(down_run=run), counts[around : last + run - 1])
    assert part[first - around : last - around] == whole[first:last] or last <= first


# --- Azure style: transactions


def test_azure_counts_transactions_whenever_they_were() -> None:
    #  0.1 % of 1,000,000
    terms = objective("azure-style")

    def month(failed: int) -> Fraction:
        busy, calm = Requests(20_000, failed), Requests(980_000, 0)
        return share(request_ratio(terms.indicator, [calm, None, busy]))

    assert month(1_001) == Fraction(998_999, 1_000_000)
    percents = {1_000: 0, 1_001: 10, 10_000: 10, 10_001: 25}
    assert {n: credit_share(terms.sla, month(n)) * 100 for n in percents} == percents


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_a_ratio_is_one_of_sums_however_the_period_is_cut(pairs: list[tuple[int, int]]) -> None:
    parts = [Requests(good + failed, failed) for good, failed in pairs]
    indicator = RequestRatio(kind="request_ratio")
    found = request_ratio(indicator, parts)
    good, eligible = sum(one for one, _ in pairs), sum(map(sum, pairs))
    assert found.ratio == (Fraction(good, eligible) if eligible else None)
    assert found == sum(
        (request_ratio(indicator, [part]) for part in parts), Attainment(Fraction(0), 0)
    )


def test_too_few_samples_are_unknown() -> None:
    indicator = RequestRatio(kind="request_ratio", min_samples=10)
    assert request_ratio(indicator, [Requests(4, 4), Requests(5, 5)]).ratio is None
    assert request_ratio(indicator, [Requests(4, 4), Requests(6, 5)]).ratio == Fraction(1, 10)
    latency = LatencyRatio(kind="latency_ratio", measure="ttft", limit="300ms", min_samples=10)
    assert latency_ratio(latency, [Latencies(9, 9), None]).ratio is None
    assert latency_ratio(latency, [Latencies(9, 9), Latencies(1, 0)]).ratio == Fraction(9, 10)


# --- OpenAI Scale style: P50 speed per five minutes, and the greater credit


def test_openai_speed_is_met_with_86_slow_slices_and_missed_with_87() -> None:
    #  1 % of 8,640 slices are 86.4
    terms = objective("openai-scale-style", "speed")
    fast, slow = Latencies(100, 51), Latencies(100, 50)  # P50 of 100 is the 50th slowest

    def month(slow_slices: int) -> Fraction:
        slices = [slow] * slow_slices + [fast] * (SLICES_OF_A_MONTH - slow_slices)
        return share(
            uptime((slice_status(terms.indicator, one) for one in slices), terms.indicator.unknown)
        )

    assert [month(n) >= terms.target for n in (86, 87)] == [True, False]
    assert [credit_share(terms.sla, month(n)) * 100 for n in (86, 87)] == [0, 25]


def test_of_both_scale_credits_only_the_greater_counts() -> None:
    fee = Money(Decimal(200_000), "USD")
    policy = load_policy("openai-scale-style")

    def due(uptime_ratio: str, speed_ratio: str) -> dict[str, Money]:
        ratios = {"uptime": Fraction(uptime_ratio), "speed": Fraction(speed_ratio)}
        return credits_due(policy, ratios, fee)

    assert due("0.9985", "0.989") == {"speed": (Decimal(50_000), "USD")}  # 10 % and 25 %
    assert due("0.9985", "0.995") == {"uptime": (Decimal(20_000), "USD")}  # 10 % and none
    assert due("0.98", "0.98") == {"uptime": (Decimal(50_000), "USD")}  # 25 % once, not twice
    assert due("0.9999", "0.9999") == {"uptime": (Decimal(0), "USD")}


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60_000), min_size=1, max_size=40),
    st.integers(1, 99),
    st.integers(1, 60_000),
)
def test_a_percentile_kept_is_what_sorting_says(
    latencies_us: list[int], percentile: int, limit_us: int
) -> None:
    indicator = SlicePercentile(
        kind="slice_percentile", measure="ttft", percentile=percentile, limit=f"{limit_us}us"
    )
    nearest_rank = sorted(latencies_us)[ceil(Fraction(percentile, 100) * len(latencies_us)) - 1]
    part = Latencies(len(latencies_us), sum(us <= limit_us for us in latencies_us))
    assert percentile_kept(indicator, part) == (nearest_rank <= limit_us)
    assert slice_status(indicator, part) is (UP if nearest_rank <= limit_us else DOWN)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60_000), min_size=1, max_size=40),
    st.integers(1, 99),
    st.sampled_from([20, 50, 80, 100, 125]),
)
def test_a_speed_kept_is_what_sorting_says(
    tpots_us: list[int], percentile: int, tokens_per_s: int
) -> None:
    indicator = SliceSpeed(kind="slice_speed", percentile=percentile, tokens_per_s=tokens_per_s)
    speeds = sorted(Fraction(10**6, us) for us in tpots_us)
    nearest_rank = speeds[ceil(Fraction(percentile, 100) * len(speeds)) - 1]
    part = Latencies(len(tpots_us), sum(us <= indicator.limit_us for us in tpots_us))
    assert percentile_kept(indicator, part) == (nearest_rank >= tokens_per_s)


def test_a_slice_without_enough_samples_is_unknown() -> None:
    indicator = SliceSpeed(kind="slice_speed", tokens_per_s=50, min_samples=2)
    assert slice_status(indicator, Latencies(1, 1)) is UNKNOWN
    assert slice_status(indicator, None) is EXCLUDED


# --- Anthropic Priority style, budgets, money


def test_anthropic_publishes_no_credits() -> None:
    policy = load_policy("anthropic-priority-style")
    assert credits_due(policy, {"uptime": Fraction(1, 2)}, Money(Decimal(1), "USD")) == {}


def test_a_burn_rate_of_14_4_spends_two_percent_of_a_months_budget_in_an_hour() -> None:
    target = Fraction(999, 1000)
    rate = burn_rate(Fraction(9856, 10_000), target)
    assert rate == Fraction(144, 10)
    assert rate * Fraction(1, 30 * 24) == Fraction(2, 100)


def test_the_budget_is_whole_without_failures_gone_at_the_target_and_then_negative() -> None:
    target = Fraction(995, 1000)
    ratios = [Fraction(1), Fraction(9975, 10_000), target, Fraction(99, 100)]
    assert [remaining_budget(ratio, target) for ratio in ratios] == [1, Fraction(1, 2), 0, -1]


def sold(**terms: Any) -> Policy:
    return as_policy(
        {
            "version": 1,
            "name": "sold",
            "objectives": [
                {
                    "name": "uptime",
                    "indicator": {"kind": "request_ratio"},
                    "target": "99.9%",
                    "period": {"calendar": "month"},
                    "sla": {"credit_tiers": [{"below": "99.9%", "credit": "12.5%"}], **terms},
                }
            ],
        },
        "test",
    )


def test_the_fee_in_the_policy_wins_over_the_directory() -> None:
    missed = {"uptime": Fraction(1, 2)}
    directory = Money(Decimal(8), "USD")
    assert credits_due(sold(), missed, None) == {}
    assert credits_due(sold(), missed, directory) == {"uptime": (Decimal(1), "USD")}
    for key in ("monthly_fee", "committed_spend"):
        due = credits_due(sold(**{key: "80 EUR"}), missed, directory)
        assert due == {"uptime": (Decimal(10), "EUR")}


def test_a_credit_is_rounded_to_the_hundredth_halves_up() -> None:
    #  12.5 % of 1.00 is 0.125; of 0.99 0.12375
    for fee, expected in (("1.00", "0.13"), ("0.99", "0.12"), ("999999999999999.96", None)):
        due = credits_due(sold(monthly_fee=f"{fee} USD"), {"uptime": Fraction(0)}, None)
        amount = due["uptime"].amount
        assert amount == Decimal(expected or "125000000000000.00")  # 124999999999999.995, exactly
        assert amount.as_tuple().exponent == -2


def test_a_directory_in_another_currency_is_an_error_not_a_guess() -> None:
    with pytest.raises(ValueError, match="min_credit is in USD, the fee 5 EUR; use one"):
        credits_due(sold(min_credit="1 USD"), {"uptime": None}, Money(Decimal(5), "EUR"))
