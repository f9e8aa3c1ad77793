"""Policy files: numbers are exact, and the shipped policies and their document agree."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slo.policy.indicators import KINDS, RequestRatio
from slo.policy.loading import (
    load_policies,
    load_policy,
    read_policy,
    shipped,
)
from slo.policy.policy import (
    ErrorBudgetObjective,
    LatencyThresholdObjective,
    Policy,
    ShareThresholdObjective,
)
from slo.policy.schema import json_schema
from slo.policy.scope import InputTokens, RollingDays
from slo.policy.units import Money, latency_text, latency_us, percent, percent_text
from streams.config.settings import Settings
from streams.config.yaml_file import parse_document
from streams.events.fields import end_of
from tests.support.checks import not_none
from tests.support.paths import TESTS
from tests.support.policy_files import EVERY_KEY

PRESETS = sorted(set(shipped()) - {"default"})


def objective(policy: Policy, name: str) -> Any:
    [found] = [one for one in policy.objectives if one.name == name]
    return found


# --- exactness


def test_a_percent_is_the_decimal_that_was_written() -> None:
    assert Fraction(0.999) != Fraction(999, 1000)  # what a float would have made of it
    assert percent("99.9%") == Fraction(999, 1000)
    assert percent("0.000000001 %") == Fraction(1, 10**11)


def test_a_number_in_a_file_keeps_all_its_digits() -> None:
    assert parse_document("0.99999999999999999999", "x", exact=True) == Decimal(
        "0.99999999999999999999"
    )


@settings(deadline=None)
@given(st.integers(0, 100 * 10**9))
def test_a_percent_written_is_the_percent_read(billionths: int) -> None:
    ratio = Fraction(billionths, 100 * 10**9)
    assert percent(percent_text(ratio)) == ratio


@settings(deadline=None)
@given(st.integers(1, 86_400 * 10**6))
def test_a_latency_written_is_the_latency_read(us: int) -> None:
    assert latency_us(latency_text(us)) == us


def test_every_key_arrives_as_what_it_means() -> None:
    policy = load_policy(EVERY_KEY)
    kinds = {entry.indicator.kind for entry in policy.objectives}
    assert kinds == set(KINDS)

    ratio = objective(policy, "ratio")
    assert isinstance(ratio, ErrorBudgetObjective)
    assert ratio.target == Fraction(9995, 10000)
    assert ratio.error_budget == Fraction(5, 10000)
    assert isinstance(ratio.period, RollingDays)
    assert ratio.period.rolling_days == 28
    assert isinstance(ratio.indicator, RequestRatio)
    assert ratio.indicator.eligible == {"success", "server_error", "cancelled"}
    assert ratio.scope.per == "model"
    assert ratio.scope.names() == {
        "region": ("eu-west",),
        "channel": ("direct",),
        "service_tier": ("priority",),
    }
    assert ratio.scope.requested_service_tier == ("priority", "flex")
    assert ratio.scope.finer() == {
        "requested_service_tier": "priority or flex",
        "input_tokens": "at most 128000",
    }
    assert policy.input_limits() == (64_000, 128_000)
    first, second, third, fourth = policy.exclusions_of(ratio)
    assert str(fourth.where.input_tokens) == "above 64000, at most 128000"
    assert datetime.fromtimestamp(not_none(first.from_s), UTC) == datetime(
        2026, 11, 7, 21, tzinfo=UTC
    )
    assert not_none(first.to_s) - not_none(first.from_s) == 5_400
    assert second.where.names() == {"model": ("preview-1", "preview-2")}
    assert third.where.region == ("no",)  # not the boolean that YAML 1.1 would make of it

    minutes = objective(policy, "minutes")
    assert minutes.period.zone.key == "Europe/Berlin"
    assert minutes.indicator.down_above == Fraction(1, 20)
    assert minutes.sla.base == Money(Decimal("250000.50"), "USD")
    assert [tier.credit for tier in minutes.sla.credit_tiers] == [Fraction(1, 10), Fraction(1, 2)]

    page, ticket = objective(policy, "now").levels
    assert (page.above_us, page.for_s) == (80_000, 120)
    assert (ticket.above_us, ticket.for_s) == (50_000, 3_600)
    moat, best = objective(policy, "cache").bands
    assert (moat.from_ratio, moat.to_ratio) == (Fraction(1, 2), 1)
    assert (best.from_ratio, best.to_ratio) == (Fraction(2, 5), Fraction(3, 5))


def test_the_limits_to_count_are_those_of_promises() -> None:
    #                         300ms         1 s / 80 tokens          1.5s; the level of 50 ms is
    #                                                                read from the histogram
    assert load_policy(EVERY_KEY).limits_us() == {
        "ttft": (300_000,),
        "tpot": (),
        "duration": (1_500_000,),
        "first_visible": (),
        "output_speed": (12_500,),
    }


@pytest.mark.parametrize(
    ("length", "is_inside"),
    [
        ("<=1000", False),
        (">1000 <=2000", True),
        (">2000", False),
        (">1500 <=2000", True),
        ("<=2000", None),
        (">1000", None),
        (">1500 <=3000", None),
        ("", None),
    ],
)
def test_a_class_of_lengths_is_in_a_range_outside_or_undecided(
    length: str, is_inside: bool | None
) -> None:
    assert InputTokens(above=1_000, at_most=2_000).contains(length, True) is is_inside


@pytest.mark.parametrize("answer", [True, False])
def test_an_unknown_length_is_in_a_range_or_not_as_the_caller_needs(answer: bool) -> None:
    assert InputTokens(above=1_000).contains("unknown", answer) is answer


def test_a_policy_cannot_be_changed() -> None:
    policy = load_policy("default")
    with pytest.raises(ValidationError):
        policy.name = "other"  # type: ignore[misc]


# --- what is shipped


def test_the_shipped_policies_can_be_in_force_together() -> None:
    assert {policy.name for policy in load_policies(shipped())} == set(shipped())


def test_the_default_policy_holds_the_numbers_the_company_is_judged_by() -> None:
    policy = load_policy("default")
    ttft, tpot = objective(policy, "ttft-p95"), objective(policy, "tpot-p95")
    assert isinstance(ttft, LatencyThresholdObjective)
    for entry, limit_us in ((ttft, 300_000), (tpot, 50_000)):
        assert entry.indicator.percentile == 95
        assert [level.above_us for level in entry.levels] == [limit_us]
    uptime = objective(policy, "uptime")
    assert (uptime.target, uptime.period.rolling_days) == (Fraction(999, 1000), 30)
    cache = objective(policy, "cache-hit")
    assert isinstance(cache, ShareThresholdObjective)
    assert {level.severity: level.below for level in cache.levels} == {
        "page": Fraction(3, 10),
        "ticket": Fraction(4, 10),
    }
    assert objective(policy, "token-volume").indicator.kind == "token_volume_drop"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_its_source_and_says_to_verify(name: str) -> None:
    policy = load_policy(name)
    assert policy.source
    assert "erify against your contract" in (policy.about or "").replace("\n", " ")


def test_the_preset_openrouter_counts_what_its_clauses_say() -> None:
    indicator = load_policy("openrouter").error_budget_objectives()[0].indicator
    assert isinstance(indicator, RequestRatio)

    def failed(status_code: int, outcome: str | None = None, of: str | None = None) -> bool:
        ended, error_class = end_of(outcome, status_code, None, of, None)
        counts = ended in indicator.eligible or error_class in indicator.error_classes
        is_bad = ended in indicator.failed or error_class in indicator.error_classes
        assert counts == (is_bad or ended == "success")
        return is_bad

    # The published guide: these count against the provider, and these do not count.
    named = {401, 402, 404, *range(500, 600)}
    assert {400, 403, 413, 429}.isdisjoint(named)
    unnamed = {status for status in range(1_000) if end_of(None, status, None, None, None)[0]}
    unnamed = {status for status in unnamed if failed(status)} - named
    assert all(map(failed, named))
    clauses = document().split("\n`openrouter`:\n")[1].split("\n## ")[0]
    [row] = [line for line in clauses.splitlines() if "both count against the provider" in line]
    assert {int(number) for number in re.findall(r"\b\d{3}\b", row.split("|")[1])} == unnamed
    assert not failed(408, outcome="client_error")
    assert not failed(410, of="invalid")


def document() -> str:
    return (TESTS.parent / "docs" / "policies.md").read_text()


def test_every_example_of_the_document_is_a_good_policy() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", document(), re.DOTALL)
    kinds = set()
    for block in blocks:
        if block.startswith("# tokenpulse.yaml"):  # settings that name policies
            Settings.model_validate(yaml.safe_load(block))
            continue
        head = "" if block.startswith("version") else "version: 1\nname: x\nobjectives:\n"
        kinds |= {entry.indicator.kind for entry in read_policy(head + block, block).objectives}
    assert kinds == set(KINDS)


def test_the_document_names_every_key_and_every_preset() -> None:
    keys = {key for part in json_schema()["$defs"].values() for key in part["properties"]}
    for word in {*keys, *PRESETS}:
        assert re.search(rf"\b{re.escape(word)}\b", document()), word
    for name in PRESETS:
        assert f"\n`{name}`:\n\n| clause |" in document()
        [row] = [line for line in document().splitlines() if line.startswith(f"| `{name}` |")]
        assert (
            percent_text(load_policy(name).error_budget_objectives()[0].target).removesuffix("%")
            in row
        )
