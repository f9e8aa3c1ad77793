"""Every alert of the pipeline has words on the board, and exactly those that hold are shown."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.evaluation.evaluator import board_groups
from alerts.rules.model import Alert
from exporters.board.alerts import (
    CLIENT_ERRORS,
    CUSTOMER_FLOOD,
    CUSTOMER_SILENT,
    DATA_STALE,
    EXPLAINS,
    OUTAGE,
    RATE_LIMITED,
    ActiveAlerts,
)
from exporters.board.incidents.data_quality import data_quality
from exporters.board.incidents.pipeline import WORDED
from exporters.board.incidents.recent_totals import RecentTotals
from exporters.board.input import BoardInput
from exporters.windows.incremental import Sums
from slo.alert_state import AlertState
from streams.state.coverage import Coverage
from streams.store.heartbeat import Heartbeat
from tests.support.exporter_state import NOW_S

# The incidents of failures have the words of these.
OF_TRAFFIC = {OUTAGE, CLIENT_ERRORS, RATE_LIMITED, CUSTOMER_FLOOD, CUSTOMER_SILENT}


def test_every_pipeline_alert_that_the_board_evaluates_has_words() -> None:
    rules = {alert.name for group in board_groups([]) for alert in group.alerts}
    assert rules == WORDED | {DATA_STALE, EXPLAINS, *OF_TRAFFIC}


def nothing_counted(alerts: ActiveAlerts) -> BoardInput:
    """Return a reading of three partitions with live workers and nothing else."""
    heartbeats = [Heartbeat(partition, {"at_ms": str(NOW_S * 1_000)}) for partition in range(3)]
    return BoardInput(
        now_s=NOW_S,
        names={},
        windows={},
        spans={"5m": (NOW_S - 300, NOW_S), "1h": (NOW_S - 3_600, NOW_S)},
        newest=Sums.empty("series"),
        newest_s=NOW_S,
        views=(),
        heartbeats=heartbeats,
        coverage=Coverage.of([]),
        lags={},
        delays_s={},
        minutes=(),
        results=None,
        days={},
        alerts=alerts,
    )


def test_sources_that_never_sent_are_named_beside_up_to_date_numbers() -> None:
    reading = replace(nothing_counted(ActiveAlerts(())), unseen_sources=["batch", "gateway"])
    quality = data_quality(reading, "5m", RecentTotals(), 10)
    assert quality.freshness.words.startswith("Up to date: ")
    assert quality.freshness.words.endswith(" Never seen: the sources batch and gateway.")
    assert quality.incidents == ()


LABEL_VALUES = {
    "partition": ("0", "1", "2"),
    "worker": ("w1", "w2"),
    "process": ("exporter", "w1"),
    "dimension": ("model", "region"),
    "model": ("large", "small"),
    "window": ("5m", "1h"),
    "source": ("gateway", "batch"),
    "span_scope": ("genai.v3", "net/http"),
    "reason": ("unreadable", "store_policy"),
}
LABELS = {name: st.sampled_from(values) for name, values in LABEL_VALUES.items()}


ALERTS = [
    alert
    for group in board_groups([])
    for alert in group.alerts
    # Without a state that was read just now the others have no facts.
    if alert.name not in OF_TRAFFIC and alert.labels.get("cause") not in ("state", "exporter")
]


def state_of(
    alert: Alert, labels: dict[str, str], is_firing: bool, holds: bool, value: float
) -> AlertState:
    since_s = NOW_S - 1.0
    return AlertState(
        alert.name,
        alert.severity,
        alert.labels,
        labels,
        value,
        since_s,
        since_s if is_firing else None,
        holds,
    )


STATES = st.builds(
    state_of,
    st.sampled_from(ALERTS),
    st.fixed_dictionaries(LABELS),
    st.booleans(),
    st.booleans(),
    st.floats(0.001, 5_000),
)


@given(st.lists(STATES, max_size=60))
def test_the_board_shows_the_pipeline_alerts_that_hold_and_no_others(
    states: list[AlertState],
) -> None:
    assert_shown(states)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_alone_is_shown_while_it_holds(alert: Alert) -> None:
    labels = {name: values[0] for name, values in LABEL_VALUES.items()}
    for is_firing, holds in product((True, False), repeat=2):
        assert_shown([state_of(alert, labels, is_firing, holds, 1)])


def assert_shown(states: list[AlertState]) -> None:
    """The board shows those of the alerts that hold, and no others."""
    quality = data_quality(nothing_counted(ActiveAlerts(states)), "5m", RecentTotals(), 15)
    shown = {
        state.alert
        for state in states
        if state.holds
        and state.severity != "none"
        and (state.alert != "TokenpulseLagGrowing" or state.firing_since_s is not None)
    }
    assert {incident.alert for incident in quality.incidents} == shown
    assert quality.stale == (DATA_STALE in shown)
    for incident in quality.incidents:
        assert incident.severity in {
            state.severity for state in states if state.holds and state.alert == incident.alert
        }
