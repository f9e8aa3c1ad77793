"""The small pieces of the live board: words, where a incident is, what rose, names that exist."""

import random
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rules.build import builtin_groups, policy_groups
from exporters import formatting as fmt
from exporters.board.breakdown import FleetTargets, availability_state
from exporters.board.incidents.localisation import SeriesGroups, Split, localise
from exporters.board.incidents.recent_totals import RecentTotals
from exporters.windows.measured import Measured
from slo.policy.loading import load_policies
from tests.support.checks import not_none
from tests.support.paths import ROOT
from tokenpulse.local.simulated_company import SIMULATED

# -- words -----------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_only_what_is_perfect_is_called_100_percent(failed: int, good: int) -> None:
    said = fmt.percent(Fraction(good, good + failed))
    assert (said == "100 %") == (failed == 0)


@pytest.mark.parametrize(
    ("spoken", "said"),
    [
        (fmt.last_window("5m"), "last 5 minutes"),
        (fmt.last_window("1h"), "last hour"),
        (fmt.last_window("30d"), "last 30 days"),
        (fmt.counted(1, "record"), "1 record"),
        (fmt.counted(1_204, "record"), "1,204 records"),
        (fmt.enumeration(["a"]), "a"),
        (fmt.enumeration(["a", "b", "c"]), "a, b and c"),
        (fmt.enumeration(list("abcdefgh")), "a, b, c, d, e and 3 more"),
    ],
)
def test_things_as_they_are_read_aloud(spoken: str, said: str) -> None:
    assert spoken == said


# -- what is met ---------------------------------------------------------------------------------


@given(st.integers(1, 999), st.integers(1, 10**4))
def test_a_target_that_is_just_reached_is_met(permille: int, thousands: int) -> None:
    #  of a thousand requests so many fail as the target allows; one more is too many
    limits = FleetTargets(Fraction(permille, 1000), None, {}, {})
    good = permille * thousands
    counted = Measured(eligible=1000 * thousands, successes=good)
    assert availability_state(counted, limits) == "ok"
    fewer = Measured(eligible=1000 * thousands, successes=good - 1)
    assert availability_state(fewer, limits) == "at_risk"


# -- where it is -----------------------------------------------------------------------------------


def split(**places: Any) -> Split:
    """`name=(bad, all)`."""
    bad, total = zip(*places.values(), strict=True)
    return Split(list(places), np.array(bad, np.int64), np.array(total, np.int64))


def blamed(allowed: float = 0.01, **dimensions: Any) -> tuple[str, tuple[str, ...]] | None:
    found = localise(dimensions, allowed)
    return None if found is None else (found.dimension, found.names)


def test_a_place_is_blamed_that_is_bad_while_all_else_is_well() -> None:
    #  region  eu 98/100, us 0/200      model  large 50/150, small 48/150
    by_region = split(eu=(98, 100), us=(0, 200))
    by_model = split(large=(50, 150), small=(48, 150))
    assert blamed(region=by_region, model=by_model) == ("region", ("eu",))
    found = not_none(localise({"region": by_region}, 0.01))
    assert (found.bad, found.total, found.share) == (98, 100, 0.98)
    assert (found.good, found.good_elsewhere) == (Fraction(2, 100), Fraction(1))
    assert (found.bad_elsewhere, found.share_elsewhere, found.explained) == (0, 0.0, 1.0)


def test_a_place_with_less_than_the_smallest_share_is_not_blamed_with_a_worse_one() -> None:
    #  cached tokens that are missing, in thousands; a few dozen of a hundred are missing by chance
    by_model = {
        "model": split(a=(54, 300), b=(126, 280), c=(28, 140), d=(27, 140), e=(26, 80), f=(12, 60))
    }
    assert not_none(localise(by_model, 0.2)).names == ("b", "e")
    assert not_none(localise(by_model, 0.2, share_min=0.4)).names == ("b",)


def test_of_two_ways_to_say_the_same_the_region_is_named() -> None:
    same = split(a=(50, 100), b=(0, 100))
    assert blamed(model=same, region=same) == ("region", ("a",))


@pytest.mark.parametrize(
    "alike",
    [
        split(eu=(30, 100), us=(35, 100), ap=(28, 90)),
        split(only=(50, 100)),
        split(eu=(0, 100), us=(0, 100)),
        split(eu=(2, 2), us=(0, 1_000)),  # two requests are no evidence
        split(eu=(4_500, 10_000), us=(2_900, 10_000)),  # worse, but elsewhere it is bad too
        split(eu=(4_500, 10_000), us=(6_000, 20_000)),
    ],
)
def test_no_place_is_blamed_for_what_is_much_the_same_everywhere(alike: Split) -> None:
    assert blamed(region=alike) is None


def test_a_few_bad_ones_are_no_evidence_though_all_else_is_well() -> None:
    assert blamed(0.05, region=split(eu=(4, 10), us=(40, 1_000))) is None
    assert blamed(0.05, region=split(eu=(40, 100), us=(40, 1_000))) == ("region", ("eu",))


def test_a_place_that_is_a_little_worse_is_not_blamed_however_sure_that_is() -> None:
    assert blamed(0.05, region=split(eu=(6_000, 10**5), us=(4_000, 10**5))) is None


def test_places_that_are_bad_together_are_named_together_the_worst_first() -> None:
    regions = split(eu=(80, 100), us=(1, 300), ap=(90, 100), sa=(0, 50))
    assert blamed(region=regions) == ("region", ("ap", "eu"))


def test_what_a_place_explains_is_what_the_words_say() -> None:
    names = [(m, r, "c", "t") for m in ("large", "small") for r in ("eu", "us")]
    places = SeriesGroups()
    places.follow(names[:2])
    places.follow(names)
    bad, total = np.array([90, 0, 1, 0]), np.array([100, 100, 100, 100])
    found = not_none(localise(places.splits(bad, total), 0.01))
    assert found.words == "model large in region eu"
    assert places.inside(found).tolist() == [True, False, False, False]


@pytest.mark.parametrize("seed", range(20))
def test_chance_alone_is_blamed_on_nobody(seed: int) -> None:
    chance = random.Random(seed)
    names = [(m, r, c, "t") for m in "abcd" for r in "efg" for c in "hi"]
    places = SeriesGroups()
    places.follow(names)
    total = np.array([chance.randrange(20, 200) for _ in names])
    bad = np.array([sum(chance.random() < 0.05 for _ in range(count)) for count in total])
    assert localise(places.splits(bad, total), 0.01) is None


# -- what rose -------------------------------------------------------------------------------------


def test_a_rise_is_counted_over_its_span_and_never_below_zero() -> None:
    #  at    0    100   200   1000
    #  lost  5    5     8     8          sent   9  ...  2 (begun anew)
    history = RecentTotals()
    for at_s, lost, sent in ((0, 5, 9), (100, 5, 9), (200, 8, 2)):
        history.add(at_s, {("lost", "0"): lost, ("sent", "0"): sent})
    assert history.rise(("lost", "0")) == 3
    assert history.rise(("sent", "0")) == 0
    assert history.rise(("lost", "0"), span_s=50) == 0
    assert history.rises("lost") == {"0": 3}
    history.add(1_150, {("lost", "0"): 8, ("lost", "1"): 2})
    assert history.rises("lost") == {}  # all that was noted before is too old to compare with
    history.add(1_200, {("lost", "0"): 8, ("lost", "1"): 4})
    assert history.rises("lost") == {"1": 2}


# -- names -----------------------------------------------------------------------------------------


def test_every_alert_that_the_board_names_exists_and_has_a_runbook() -> None:
    sources = (ROOT / "exporters" / "board").rglob("*.py")
    named = {
        name for path in sources for name in re.findall(r"\"(Tokenpulse\w+)\"", path.read_text())
    }
    groups = [*builtin_groups("job")]
    for policy in load_policies(("default", SIMULATED / "contracts.yaml")):
        groups += policy_groups(policy)
    rules = {alert.name for group in groups for alert in group.alerts}
    runbooks = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert len(named) > 10
    assert named <= runbooks
    assert named - {"TokenpulseDurationHigh"} <= rules  # no shipped objective is about durations
