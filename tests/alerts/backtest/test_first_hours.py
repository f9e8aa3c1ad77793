"""The first hours of a new installation: no page for lack of history, and each real fault pages."""

import random

import numpy as np
import pytest

from alerts.backtest.run import Backtest, Evaluation
from alerts.evaluation.matrix import Families, Matrix
from exporters.catalogue.pipeline import STATE_SINCE
from slo.policy.loading import load_policy
from streams.state.tables import Ints
from tests.support.backtests import T0, Event, backtested, event

HOUR_S = 3_600


@pytest.fixture(autouse=True)
def _age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the rules the time of the first event, as the exporter does.

    A backtest leaves it out: its recording may begin in the middle of an installation's life.
    """
    families_of = Evaluation.families

    def with_age(self: Evaluation, begin: int, ends: Ints, until: int) -> Families:
        shape = (1, len(ends))
        since = Matrix(((),), np.full(shape, float(T0)), np.ones(shape, np.bool_))
        return {**families_of(self, begin, ends, until), STATE_SINCE.name: since}

    monkeypatch.setattr(Evaluation, "families", with_age)


def first_hours(until_s: int, failing: dict[tuple[int, int], float]) -> list[Event]:
    """Return two requests a second of two models, regions and three customers.

    `failing`: share of failures between two times in seconds; one in 2,000 fails at other times.
    One model comes after 20 minutes, and one customer leaves after an hour.
    """
    chance = random.Random(7)
    events = []
    for at in range(2 * until_s):
        at_s = at / 2
        share = next((bad for (a, b), bad in failing.items() if a <= at_s < b), 1 / 2_000)
        events.append(
            event(
                T0 + at_s,
                model=chance.choice(["large", "small"]) if at_s > 1_200 else "large",
                region=chance.choice(["eu", "us"]),
                customer_id=chance.choice("abc" if at_s < HOUR_S else "ab"),
                outcome="server_error" if chance.random() < share else "success",
                input_tokens=1_000,
                cached_input_tokens=600,
                output_tokens=100,
            )
        )
    return events


def pages(found: Backtest) -> set[tuple[str, str]]:
    """Return the pages that fired, by alert and the label `window` or `scope`."""
    return {
        (watched.alert.name, watched.alert.labels.get("window", ""))
        for watched in found.watched
        if watched.alert.severity == "page"
        and any(episode.fired_at_s is not None for episode in watched.episodes())
    }


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param({}, id="all is well"),
        pytest.param({(0, 120): 0.08}, id="a rough start"),
        pytest.param({(1_500, 1_560): 0.3}, id="a minute that is bad, of half an hour"),
    ],
)
def test_young_data_pages_for_no_fault_that_old_data_would_forgive(
    failing: dict[tuple[int, int], float],
) -> None:
    assert pages(backtested(first_hours(2 * HOUR_S, failing), load_policy("default"))) == set()


def test_an_outage_in_the_first_ten_minutes_pages() -> None:
    found = backtested(first_hours(900, {(300, 600): 1.0}), load_policy("default"))
    assert {alert for alert, _ in pages(found)} >= {"TokenpulseOutage", "TokenpulseErrorBudgetBurn"}
