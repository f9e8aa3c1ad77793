"""Whether the board's numbers are current and complete.

Pure but for the recent totals. Whether an alert holds comes from the rules (alerts.py). The board
itself checks what comes before an alert: a partition without a live worker, seconds without news,
and a partition that catches up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exporters import formatting as fmt
from exporters.board.alerts import DATA_STALE, WINDOW_INCOMPLETE
from exporters.board.facts import Freshness, Incident, Severity, State
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.incidents.pipeline import HALTED, partition_list, pipeline_incidents
from exporters.board.incidents.recent_totals import WAITING, RecentTotals, totals_of
from exporters.board.input import BoardInput
from slo.alert_state import AlertState
from slo.health_limits import BEHIND_AFTER_S
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

STATE_LOST = "TokenpulseStateLost"
QUIET_AFTER_S = 60.0
# A worker sends a heartbeat, and Kafka answers it, every second or so. After a few seconds without,
# the board knows nothing of the records since; as parts of the times after which that is an alert.
_NO_NEWS_OF_WORKER = 1 / 3
_NO_NEWS_OF_BROKER = 1 / 4
_PACE_SPAN_S = 30.0  # of the waiting records, to tell when a worker will have caught up
# Alerts that leave the numbers of the board as good as they are.
_HARMLESS = {"TokenpulseArchiveOld", "TokenpulseClockOff", WINDOW_INCOMPLETE}


@dataclass(frozen=True, slots=True)
class DataQuality:
    """How far the numbers can be trusted."""

    freshness: Freshness
    incidents: tuple[Incident, ...]
    stale: bool  # the numbers are old, or of a part of the partitions only
    blind: bool  # no partition is counted, so nothing can be concluded from the numbers


def data_quality(
    reading: BoardInput, window: str, totals: RecentTotals, stale_after_s: float
) -> DataQuality:
    """Return the quality of the numbers over `window`.

    `stale_after_s`: age of a heartbeat after which its worker counts as gone, as for readiness.
    """
    if all(view.is_readable for view in reading.views):
        totals.add(reading.now_s, totals_of(reading.views, reading.lags))
    unowned = _unowned_partitions(reading, stale_after_s)
    delays_s = _delays_s(reading, unowned)
    silences_s = _broker_silences_s(reading, unowned)
    stale = [
        *_worker_incidents(reading, unowned),
        *_broker_incidents(reading, silences_s),
        *_delay_incidents(reading, delays_s, totals),
    ]
    incidents = [*stale, *pipeline_incidents(reading, totals)]
    # A halted partition is old data too, but its own alert says why.
    halts = [incident for incident in incidents if incident.alert == HALTED]
    complete = reading.coverage.complete(*reading.spans[window])
    state: State = "ok"
    if stale or halts:
        state = "breached"
    # Incomplete windows other than the board's leave the numbers on it as they are.
    elif not complete or any(incident.alert not in _HARMLESS for incident in incidents):
        state = "at_risk"
    unheard = {} if stale or halts else _unheard_s(reading, stale_after_s)
    unanswered = {} if stale or halts or unheard else _unanswered_s(reading)
    # Nothing is known to be wrong yet, but nothing to be right either.
    if state == "ok" and (unheard or unanswered):
        state = "unknown"
    workers = {
        heartbeat.text("worker")
        for heartbeat in reading.heartbeats
        if heartbeat.partition not in {*unowned, *unheard}
    }
    if stale or halts:
        words = [*stale, *halts][0].words
    elif unheard or unanswered:
        words = _no_news_words(reading, unheard, unanswered)
    else:
        words = _calm_words(reading, len(workers)) + _unseen_words(reading)
    is_lag_known = reading.lags and not unheard and not unanswered
    newest_s = _newest_event_s(reading)
    partitions = _partitions(reading)
    freshness = Freshness(
        state=state,
        words=words,
        newest_event_age_s=None if newest_s is None else max(0.0, reading.now_s - newest_s),
        lag_records=sum(reading.lags.values()) if is_lag_known else None,
        workers=len(workers),
        complete=complete,
        rebuilt=bool(reading.alerts.named(STATE_LOST)),
        no_news=bool(unheard or unanswered),
        # Partitions that no worker reads are worse than late ones, and have other words.
        catching_up=bool(delays_s) and not (unowned or silences_s or _has_fired(reading)),
    )
    return DataQuality(
        freshness,
        tuple(incidents),
        stale=bool(stale),
        blind=bool(partitions) and partitions == {*unowned, *delays_s, *silences_s},
    )


def _partitions(reading: BoardInput) -> set[int]:
    return {
        *(view.partition for view in reading.views),
        *(heartbeat.partition for heartbeat in reading.heartbeats),
    }


# -- old numbers -----------------------------------------------------------------------------------


def _unowned_partitions(reading: BoardInput, stale_after_s: float) -> dict[int, float | None]:
    """Return the partitions without a live worker, with the age of the last heartbeat if any."""
    ages_s = {
        heartbeat.partition: heartbeat.age_s(reading.now_s) for heartbeat in reading.heartbeats
    }
    alerted = {
        int(state.series["partition"])
        for state in reading.alerts.named(DATA_STALE)
        if state.rule_labels.get("cause") == "worker"
    }
    return {
        partition: age_s
        for partition in sorted(_partitions(reading))
        if (age_s := ages_s.get(partition)) is None or age_s > stale_after_s or partition in alerted
    }


def _worker_incidents(reading: BoardInput, unowned: dict[int, float | None]) -> Iterator[Incident]:
    if not unowned:
        return
    ages_s = [age_s for age_s in unowned.values() if age_s is not None]
    since = f"for {fmt.span(min(ages_s))}" if ages_s else "yet"
    partitions = len(_partitions(reading))
    if len(unowned) == partitions:
        newest_s = _newest_event_s(reading)
        counted = "" if newest_s is None else f": no event after {fmt.clock(newest_s)} UTC counts"
        words = f"No worker has sent a heartbeat {since}{counted}."
        yield _stale_incident(words, reading, "worker")
    else:
        yield _stale_incident(
            f"No worker counts {partition_list(unowned)} of {partitions}: no heartbeat {since}, "
            "so a part of the traffic is missing.",
            reading,
            "worker",
        )


def _broker_silences_s(reading: BoardInput, unowned: dict[int, float | None]) -> dict[int, float]:
    """Return the partitions whose live worker has no answer from Kafka, with its length."""
    alerted = {
        partition: state.value
        for state in reading.alerts.named(DATA_STALE)
        if state.rule_labels.get("cause") == "broker"
        and (partition := int(state.series["partition"])) not in unowned
    }
    return alerted | {
        heartbeat.partition: silence_s
        for heartbeat in reading.heartbeats
        if heartbeat.partition not in unowned
        and (silence_s := heartbeat.broker_silence_s() or 0.0) > BROKER_SILENT_AFTER_S
    }


def _broker_incidents(reading: BoardInput, silences_s: dict[int, float]) -> Iterator[Incident]:
    if not silences_s:
        return
    is_all = silences_s.keys() == _partitions(reading)
    workers = "" if is_all else f" to the workers of {partition_list(silences_s)}"
    yield _stale_incident(
        f"No answer from Kafka{workers} for {fmt.span(min(silences_s.values()))}: new requests are "
        "not counted, and how many records wait is unknown.",
        reading,
        "broker",
    )


def _delays_s(reading: BoardInput, unowned: dict[int, float | None]) -> dict[int, float]:
    """Return the partitions with a live worker that are counted too late, with their delay."""
    # As the rule `behind`, but whether or not the partition catches up.
    late = {
        view.partition: delay_s
        for view in reading.views
        if view.partition not in unowned
        and (delay_s := reading.delays_s.get(view.partition, 0.0)) > BEHIND_AFTER_S
        and reading.now_s - view.meta.written_at_ms / 1_000 <= BEHIND_AFTER_S
    }
    return late | {
        partition: state.value
        for state in reading.alerts.named(DATA_STALE)
        if state.rule_labels.get("cause") != "broker"
        and (partition := int(state.series["partition"])) not in unowned
    }


def _delay_incidents(
    reading: BoardInput, delays_s: dict[int, float], totals: RecentTotals
) -> Iterator[Incident]:
    """Yield the partitions that are counted too late, with the end if fewer and fewer wait."""
    if delays_s:
        lags = {
            partition: reading.lags[partition]
            for partition in delays_s
            if partition in reading.lags
        }
        waiting = sum(lags.values())
        records = f", and {fmt.counted(waiting, 'record')} wait" if waiting else ""
        words = (
            f"{partition_list(delays_s)} {'is' if len(delays_s) == 1 else 'are'} "
            f"{fmt.span(max(delays_s.values()))} behind{records}"
        )
        # Records also arrive meanwhile, and other partitions have their own pace.
        fall_per_s = totals.fall_per_s(
            [(WAITING, str(partition)) for partition in lags], _PACE_SPAN_S
        )
        # Of a worker that does not catch up, no end can be expected.
        if not _has_fired(reading) and waiting and fall_per_s:
            words += f"; {fmt.about_span(waiting / fall_per_s)} more at this pace"
        yield _stale_incident(
            f"{fmt.capitalize(words) if _has_fired(reading) else f'Catching up: {words}'}.",
            reading,
            "behind",
        )


def _stale_alerts(reading: BoardInput) -> list[AlertState]:
    """Return the alerts about old data: pending, firing, or kept firing."""
    kept = [state for state in reading.alerts.kept if state.alert == DATA_STALE]
    return [*reading.alerts.named(DATA_STALE), *kept]


def _has_fired(reading: BoardInput) -> bool:
    """Return whether old data is alerted: the rule waits, as a worker that starts is behind."""
    return any(state.firing_since_s for state in _stale_alerts(reading))


# -- no news: too early for an alert ---------------------------------------------------------------


def _unheard_s(reading: BoardInput, stale_after_s: float) -> dict[int, float]:
    """Return the partitions whose last heartbeat is older than usual, with its age."""
    return {
        heartbeat.partition: age_s
        for heartbeat in reading.heartbeats
        if (age_s := heartbeat.age_s(reading.now_s) or 0.0) > stale_after_s * _NO_NEWS_OF_WORKER
    }


def _unanswered_s(reading: BoardInput) -> dict[int, float]:
    """Return the partitions whose worker waits for an answer from Kafka, with how long."""
    return {
        heartbeat.partition: silence_s
        for heartbeat in reading.heartbeats
        if (silence_s := heartbeat.broker_silence_s() or 0.0)
        > BROKER_SILENT_AFTER_S * _NO_NEWS_OF_BROKER
    }


def _no_news_words(
    reading: BoardInput, unheard: dict[int, float], unanswered: dict[int, float]
) -> str:
    partitions = unheard or unanswered
    length = fmt.whole_span(round(min(partitions.values())))
    is_all = partitions.keys() == _partitions(reading)
    if unheard:
        of = "any worker" if is_all else f"the workers of {partition_list(unheard)}"
        return (
            f"No news from {of} for {length}: whether requests are counted, and how many records "
            "wait, is not known."
        )
    to = "" if is_all else f" to the workers of {partition_list(unanswered)}"
    return f"No answer from Kafka{to} for {length}: how many records wait is not known."


# -- words -----------------------------------------------------------------------------------------


def _calm_words(reading: BoardInput, workers: int) -> str:
    newest_s = _newest_event_s(reading)
    workers_text = fmt.counted(workers, "worker")
    if newest_s is None:
        return f"Up to date: no request was counted yet; {workers_text}."
    age_s = max(0.0, reading.now_s - newest_s)
    if age_s > QUIET_AFTER_S and not sum(reading.lags.values()):
        return f"Up to date: no request has arrived for {fmt.span(age_s)}; {workers_text}."
    # How old, how many workers and records: the list beside it has the numbers.
    return "Up to date."


def _unseen_words(reading: BoardInput) -> str:
    if not reading.unseen_sources:
        return ""
    sources = "the source" if len(reading.unseen_sources) == 1 else "the sources"
    return f" Never seen: {sources} {fmt.enumeration(reading.unseen_sources)}."


def _newest_event_s(reading: BoardInput) -> float | None:
    # A watermark that may still fall may be that of a wrong clock: it counts only without others.
    metas = [view.meta for view in reading.views]
    settled_ms = [at_ms for meta in metas if (at_ms := meta.watermark().settled_ms)]
    newest_ms = settled_ms or [at_ms for meta in metas if (at_ms := meta.watermark_ms)]
    return max(newest_ms) / 1_000 if newest_ms else None


def _stale_incident(words: str, reading: BoardInput, cause: str) -> Incident:
    alerts = _stale_alerts(reading)
    # No rule holds for a partition that catches up.
    severity: Severity = "page" if alerts or cause != "behind" else "info"
    return Incident(
        severity,
        words,
        DATA_STALE,
        DATA_STALE,
        incident_key(DATA_STALE, cause),
        notification_of(alerts),
    )
