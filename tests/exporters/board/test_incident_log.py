"""The incidents of the last day: since when, how bad, until when; also over restarts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.board.facts import Extent, Incident, LiveState, Notification
from exporters.board.incidents.log import KEEP_S, RECORDS_MAX, REOPEN_S, IncidentLog, IncidentRecord
from exporters.board.live.build import LiveBoard
from exporters.board.live.page import fragments
from tests.support.board_samples import WELL
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, in_world, traffic


def failing(share: float, affected: float | None = None) -> Incident:
    words = f"{share:.0%} failed"
    extent = Extent(share, words, affected)
    return Incident("page", words, "A", "A", "failures|region eu", extent=extent)


def stored(log: IncidentLog, now_s: float) -> list[IncidentRecord]:
    fields, _ = log.changes(now_s)
    return [record for value in fields.values() if (record := IncidentRecord.decode(value))]


def test_an_incident_has_start_end_peak_and_affected_share() -> None:
    log = IncidentLog()
    for at_s, share in ((100, 0.2), (110, 0.6), (120, 0.4)):
        (shown,) = log.update([failing(share, share / 10)], at_s, False)
    assert (shown.since_s, shown.peak, shown.affected_ratio) == (100, "60% failed", 0.06)
    assert log.past() == ()
    assert log.update([], 121, False) == ()
    (past,) = log.past()
    assert (past.start_s, past.end_s, past.words, past.affected_ratio) == (
        *(100, 120, "60% failed", 0.06),
    )


@pytest.mark.parametrize("pause_s", [REOPEN_S / 2, REOPEN_S * 2])
def test_an_incident_that_returns_soon_is_the_same(pause_s: float) -> None:
    log = IncidentLog()
    log.update([failing(0.5)], 90, False)
    log.update([failing(0.5)], 100, False)
    log.update([], 101, False)
    log.update([], 100 + pause_s - 1, False)
    (shown,) = log.update([failing(0.5)], 100 + pause_s, False)
    is_same = pause_s < REOPEN_S
    assert shown.since_s == (90 if is_same else 100 + pause_s)
    assert len(log.past()) == (0 if is_same else 1)


def test_incidents_are_forgotten_after_a_day() -> None:
    log = IncidentLog()
    log.update([failing(0.5)], 90, False)
    log.update([failing(0.5)], 100, False)
    log.update([], 101, False)
    log.mark_written(101)
    log.update([], 100 + KEEP_S - 1, False)
    assert len(log.past()) == 1
    log.update([], 101 + KEEP_S, False)
    assert log.past() == ()
    assert log.changes(101 + KEEP_S) == ({}, ["90000|failures|region eu"])


@pytest.mark.parametrize("fires", [False, True])
def test_a_moment_leaves_no_record_unless_a_person_was_notified(fires: bool) -> None:
    notification = Notification("firing", 100) if fires else Notification()
    log = IncidentLog()
    log.update([replace(failing(0.5), notification=notification)], 100, False)
    log.update([], 102, False)
    assert len(log.past()) == fires
    written, deleted = log.changes(102)
    assert (len(written), len(deleted)) == ((1, 0) if fires else (0, 1))


def test_no_incident_of_the_traffic_ends_while_the_traffic_is_unknown() -> None:
    log = IncidentLog()
    log.update([failing(0.5)], 100, False)
    log.update([], 400, True)
    assert log.past() == ()


@given(st.lists(st.tuples(st.integers(1, 200), st.sets(st.sampled_from("abc"))), max_size=30))
def test_a_restart_at_any_time_changes_no_record(steps: list[tuple[int, set[str]]]) -> None:
    #  each step: so many seconds later, these incidents are seen
    straight, restarted = IncidentLog(), IncidentLog()
    now_s = 0
    for pause_s, keys in steps:
        now_s += pause_s
        seen = [replace(failing(0.5), key=key) for key in sorted(keys)]
        assert straight.update(seen, now_s, False) == restarted.update(seen, now_s, False)
        records = [
            IncidentRecord.decode(msgspec.json.encode(record))
            for record in restarted._records.values()
        ]
        closed = {key for key in restarted._open if not restarted._open[key].is_open}
        # A pause that is shorter than REOPEN_S is forgotten by a restart: then a new one begins.
        if not closed:
            restarted = IncidentLog(record for record in records if record is not None)
            restarted._resumed.clear()
    assert straight.past() == restarted.past()


def test_a_stored_record_of_another_version_is_left_out() -> None:
    assert IncidentRecord.decode(b'{"key": 5}') is None
    assert IncidentRecord.decode(b"no json") is None


def test_a_restart_keeps_since_when_an_alert_fires() -> None:
    def with_alert(state: Any, at_s: float) -> Incident:
        return replace(failing(0.5), notification=Notification(state, at_s))

    log = IncidentLog()
    log.update([with_alert("firing", 90)], 100, False)
    (record,) = stored(log, 100)
    (shown,) = IncidentLog([record]).update([with_alert("pending", 130)], 120, False)
    assert shown.notification == Notification("firing", 90)
    assert shown.since_s == 100


def firing(at_s: float) -> Incident:
    return replace(failing(0.5), notification=Notification("firing", at_s))


def test_an_alert_that_fires_again_is_firing_since_then_and_paged_at_first() -> None:
    #  100 firing since 90 | 110 pending | 120 firing since 115 | 130 the same
    log = IncidentLog()
    log.update([firing(90)], 100, False)
    pending = replace(failing(0.5), notification=Notification("pending", 115))
    (shown,) = log.update([pending], 110, False)
    assert shown.notification == Notification("pending", 115)
    for now_s in (120, 130):
        (shown,) = log.update([firing(115)], now_s, False)
        assert shown.notification == Notification("firing", 115)
    log.update([], 131, False)
    (shown,) = log.update([firing(150)], 151, False)  # a short pause: the same incident
    assert shown.notification == Notification("firing", 150)
    log.update([], 152, False)
    assert [past.firing_since_s for past in log.past()] == [90]


def test_another_alert_of_an_incident_that_fires_on_changes_no_time() -> None:
    log = IncidentLog()
    log.update([firing(90)], 100, False)
    (shown,) = log.update([firing(95)], 110, False)
    assert shown.notification == Notification("firing", 90)


def failing_in(*regions: str) -> Incident:
    where = tuple(("region", region) for region in regions)
    key = f"failures|{' and '.join(regions)}"
    return replace(failing(0.5), key=key, where=where, group="failures")


def test_a_place_that_joins_or_leaves_begins_no_other_incident() -> None:
    log = IncidentLog()
    steps = (["a"], ["a", "b"], ["b", "a", "c"], ["b"])
    shown = [log.update([failing_in(*step)], 100 + at, False)[0] for at, step in enumerate(steps)]
    assert {(one.key, one.since_s, one.id) for one in shown} == {
        ("failures|a", 100, shown[0].id),
    }
    others = log.update([failing_in("b"), failing_in("d")], 110, False)
    assert [one.since_s for one in others] == [100, 110]
    model = replace(failing_in("b"), key="failures|m", where=(("model", "b"),))
    assert [one.since_s for one in log.update([model], 111, False)] == [111]


def test_the_log_has_a_limit_and_drops_the_oldest() -> None:
    log = IncidentLog()
    for number in range(RECORDS_MAX + 3):
        log.update([replace(failing(0.5), key=str(number))], 10 * number, False)
        log.update([replace(failing(0.5), key=str(number))], 10 * number + 6, False)
    assert len(log._records) == RECORDS_MAX
    assert min(record.start_s for record in log._records.values()) == 30
    _, deleted = log.changes(10 * RECORDS_MAX + 30)
    assert "0|0" in deleted


def test_an_incident_continues_however_long_the_exporter_was_away() -> None:
    log = IncidentLog()
    log.update([failing(0.5)], 100, False)
    (shown,) = IncidentLog(stored(log, 100)).update([failing(0.5)], 100 + 10 * REOPEN_S, False)
    assert shown.since_s == 100


def test_incidents_survive_a_restart_of_the_exporter(configured: Callable[..., Any]) -> None:
    #  fine ... | 60 s of failures in one region | fine for 3 min |
    def fail(one: dict[str, Any]) -> dict[str, str]:
        down = NOW_S - 60 <= one["ended_at"] / 1_000 < NOW_S
        return {"outcome": "server_error"} if down and one["region"] == "eu-west-1" else {}

    settings = configured()
    events = traffic(4, 20, NOW_S - 600, NOW_S + 180, fail)

    async def before(world: World) -> Any:
        await world.writer.write(0, [e for e in events if e["ended_at"] <= NOW_S * 1_000], NOW_S)
        await world.facts(NOW_S - 10)
        return await world.facts(NOW_S)

    async def after(world: World) -> Any:
        rest = [e for e in events if e["ended_at"] > NOW_S * 1_000]
        await world.writer.write(0, rest, NOW_S + 180)
        return await world.facts(NOW_S + 180)

    first = in_world(settings, before)
    assert [one.since_s for one in first.incidents if one.key.startswith("failures")] == [
        NOW_S - 10
    ]
    second = in_world(settings, after)
    past = [one for one in second.past_incidents if one.alert == "TokenpulseOutage"]
    assert [(one.start_s, one.end_s) for one in past] == [(NOW_S - 10, NOW_S)]
    assert past[0].words.startswith("Region eu-west-1: ")
    assert past[0].peak is not None
    assert past[0].peak.endswith(" failed")
    assert past[0].affected_ratio == pytest.approx(1 / 3, abs=0.1)
    part = fragments(LiveState(second, None, 1.0))["incidents"]
    assert "ended in the last 24 hours" in part
    assert past[0].peak in part.replace("\u00a0", " ")


def test_a_page_without_past_incidents_does_not_mention_them() -> None:
    assert "24 hours" not in fragments(LiveState(WELL, None, 1.0))["incidents"]


def test_the_log_keeps_tokens_and_the_board_shows_names() -> None:
    token = "0123456789abcdef01234567"
    board = LiveBoard((), {token: "Acme"}.get, 30)  # type: ignore[arg-type]
    assert board._with_names(f"customer {token}: 41 % failed") == "customer Acme: 41 % failed"
