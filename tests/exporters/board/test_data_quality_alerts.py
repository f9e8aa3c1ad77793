"""Every alert of the pipeline has words on the board, and exactly those that hold are shown."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from alerts.evaluation.evaluator import board_groups
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


LABELS = {
    "partition": st.sampled_from("012"),
    "worker": st.sampled_from(["w1", "w2"]),
    "dimension": st.sampled_from(["model", "region"]),
    "model": st.sampled_from(["large", "small"]),
    "window": st.sampled_from(["5m", "1h"]),
    "source": st.sampled_from(["gateway", "batch"]),
    "span_scope": st.sampled_from(["genai.v3", "net/http"]),
    "reason": st.sampled_from(["unreadable", "store_policy"]),
}


@given(st.data())
def test_the_board_shows_the_pipeline_alerts_that_hold_and_no_others(data: st.DataObject) -> None:
    states = []
    for group in board_groups([]):
        for alert in group.alerts:
            cause = alert.labels.get("cause")
            if alert.name in OF_TRAFFIC or cause in ("state", "exporter"):
                continue  # no facts without a state that was read just now
            for labels in data.draw(st.lists(st.fixed_dictionaries(LABELS), max_size=2)):
                is_firing, holds = data.draw(st.booleans()), data.draw(st.booleans())
                since_s = NOW_S - 1.0
                states.append(
                    AlertState(
                        alert.name,
                        alert.severity,
                        alert.labels,
                        labels,
                        data.draw(st.floats(0.001, 5_000)),
                        since_s,
                        since_s if is_firing else None,
                        holds,
                    )
                )
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
