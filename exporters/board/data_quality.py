"""Whether the board's numbers are current and complete, and what is wrong with Tokenpulse itself.

Pure but for the recent totals. The limits are those of the pipeline's alerts (slo/health_limits.py,
read by alerts/rules/pipeline.py); an alert waits before it fires, the board shows it at once.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporters import formatting as fmt
from exporters.board.facts import Freshness, Incident, Severity, State
from exporters.board.input import Reading
from exporters.board.recent_totals import SPAN_S, RecentTotals
from slo.health_limits import (
    BEHIND_AFTER_S,
    FEWEST_REFUSED,
    MANY_WAITING,
    REFUSED_SHARE,
    STALE_AFTER_S,
)
from streams.state.slices import PROBES_AT, rejections_by_reason
from streams.state.snapshot import Gap

REJECTED_SPAN_S = 300.0
GROWTH_SPAN_S = 60.0
QUIET_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class DataQuality:
    """How far the numbers can be trusted."""

    freshness: Freshness
    incidents: tuple[Incident, ...]
    stale: bool  # the numbers are old, or of a part of the partitions only
    blind: bool  # no partition is counted, so nothing can be concluded from the numbers


def data_quality(
    reading: Reading, window: str, totals: RecentTotals, stale_after_s: float
) -> DataQuality:
    """Return the quality of the numbers over `window`.

    `stale_after_s`: age of a heartbeat after which its worker counts as gone, at most that of the
    alert.
    """
    totals.add(reading.now_s, _totals(reading))
    gone_after_s = min(stale_after_s, STALE_AFTER_S)
    unowned = _unowned_partitions(reading, gone_after_s)
    delays_s = _delays_s(reading, unowned)
    stale = [*_worker_incidents(reading, unowned), *_delay_incidents(reading, delays_s)]
    halts = list(_halt_incidents(reading))
    losses = [
        *_loss_incidents(reading),
        *_state_loss_incidents(totals),
        *_lag_incidents(reading, totals),
        *_rejection_incidents(totals),
        *_overflow_incidents(totals),
    ]
    complete = reading.coverage.complete(*reading.spans[window])
    workers = {
        heartbeat.text("worker")
        for heartbeat in reading.heartbeats
        if (age_s := heartbeat.age_s(reading.now_s)) is not None and age_s <= gone_after_s
    }
    state: State = "ok"
    if stale or halts:
        state = "breached"
    elif losses or not complete:
        state = "at_risk"
    newest_s = _newest_event_s(reading)
    partitions = _partitions(reading)
    freshness = Freshness(
        state=state,
        words=[*stale, *halts][0].words if stale or halts else _calm_words(reading, len(workers)),
        newest_event_age_s=None if newest_s is None else max(0.0, reading.now_s - newest_s),
        lag_records=sum(reading.lags.values()) if reading.lags else None,
        workers=len(workers),
        complete=complete,
    )
    return DataQuality(
        freshness,
        (*stale, *halts, *losses, *_coverage_incidents(reading)),
        stale=bool(stale),
        blind=bool(partitions) and partitions == {*unowned, *delays_s},
    )


def _totals(reading: Reading) -> dict[Hashable, int]:
    """Return the totals whose rise matters, by (kind, name)."""
    totals: dict[Hashable, int] = {("lag", str(at)): lag for at, lag in reading.lags.items()}
    totals["counted", ""] = 0
    for view in reading.views:
        totals["rebuilt", str(view.partition)] = view.meta.rebuilt
        totals["counted", ""] += int(view.totals.series.values[:, :PROBES_AT].sum())
        for dimension, count in view.meta.overflowed.items():
            totals["folded", dimension] = totals.get(("folded", dimension), 0) + count
        for reason, count in rejections_by_reason(view.totals).items():
            totals["refused", reason] = totals.get(("refused", reason), 0) + count
    return totals


def _partitions(reading: Reading) -> set[int]:
    return {
        *(view.partition for view in reading.views),
        *(heartbeat.partition for heartbeat in reading.heartbeats),
    }


# -- old numbers -----------------------------------------------------------------------------------


def _unowned_partitions(reading: Reading, gone_after_s: float) -> dict[int, float | None]:
    """Return the partitions without a live worker, with the age of the last heartbeat if any."""
    heartbeats_s = {one.partition: one.age_s(reading.now_s) for one in reading.heartbeats}
    ages_s = {partition: heartbeats_s.get(partition) for partition in sorted(_partitions(reading))}
    return {
        partition: age_s
        for partition, age_s in ages_s.items()
        if age_s is None or age_s > gone_after_s
    }


def _worker_incidents(reading: Reading, unowned: dict[int, float | None]) -> Iterator[Incident]:
    if not unowned:
        return
    ages_s = [age_s for age_s in unowned.values() if age_s is not None]
    since = f"for {fmt.span(min(ages_s))}" if ages_s else "yet"
    partitions = len(_partitions(reading))
    if len(unowned) == partitions:
        newest_s = _newest_event_s(reading)
        counted = "" if newest_s is None else f": no event after {fmt.clock(newest_s)} UTC counts"
        yield _stale_incident(f"No worker has sent a heartbeat {since}{counted}.")
    else:
        yield _stale_incident(
            f"No worker counts {_partition_list(unowned)} of {partitions}: no heartbeat {since}, "
            "so a part of the traffic is missing."
        )


def _delays_s(reading: Reading, unowned: dict[int, float | None]) -> dict[int, float]:
    """Return the partitions that are counted too late, with their delay."""
    halted = {one.partition for one in reading.heartbeats if one.text("halted")}
    delays_s: dict[int, float] = {}
    for view in reading.views:
        if view.partition in unowned or view.partition in halted:
            continue
        written_s = reading.now_s - view.meta.written_at_ms / 1_000
        event_age_s = reading.freshness_s.get(view.partition, 0.0)
        if written_s > BEHIND_AFTER_S and reading.lags.get(view.partition, 0) > 0:
            delays_s[view.partition] = written_s
        # In silence the age of the newest event does not grow, so it counts only after a write.
        elif event_age_s > BEHIND_AFTER_S >= written_s:
            delays_s[view.partition] = event_age_s
    return delays_s


def _delay_incidents(reading: Reading, delays_s: dict[int, float]) -> Iterator[Incident]:
    if delays_s:
        waiting = sum(reading.lags.get(partition, 0) for partition in delays_s)
        records = f", and {fmt.counted(waiting, 'record')} wait" if waiting else ""
        yield _stale_incident(
            f"{fmt.capitalize(_partition_list(delays_s))} {'is' if len(delays_s) == 1 else 'are'} "
            f"{fmt.span(max(delays_s.values()))} behind{records}."
        )


def _halt_incidents(reading: Reading) -> Iterator[Incident]:
    for heartbeat in reading.heartbeats:
        if reason := heartbeat.text("halted"):
            yield _incident(
                "page",
                "TokenpulsePartitionHalted",
                f"Partition {heartbeat.partition} is halted ({reason}): its records are not "
                "counted until an operator resumes it.",
            )


# -- missing, rejected, waiting records ------------------------------------------------------------


def _loss_incidents(reading: Reading) -> Iterator[Incident]:
    gaps = [
        gap
        for gap in reading.coverage.gaps
        if gap.to_ms is None or gap.to_ms / 1_000 > reading.now_s - SPAN_S
    ]
    if gaps:
        lost = sum(gap.records for gap in gaps)
        yield _incident(
            "page",
            "TokenpulseRecordsLost",
            f"{fmt.counted(lost, 'record')} {'was' if lost == 1 else 'were'} lost {_when(gaps)}: "
            "gone from Kafka before they were counted, or skipped by an operator.",
        )


def _when(gaps: Sequence[Gap]) -> str:
    since = f"{fmt.clock(gaps[0].from_ms / 1_000)} UTC"
    last_ms = gaps[-1].to_ms
    if last_ms is None:
        return f"since {since}"
    return f"from {since} to {fmt.clock(last_ms / 1_000)} UTC"


def _state_loss_incidents(totals: RecentTotals) -> Iterator[Incident]:
    if rises := totals.rises("rebuilt"):
        yield _incident(
            "page",
            "TokenpulseStateLost",
            f"The state of {_partition_list(map(int, rises))} was missing in Redis and is rebuilt "
            "from the archive and Kafka.",
        )


def _lag_incidents(reading: Reading, totals: RecentTotals) -> Iterator[Incident]:
    growing = {
        partition: lag
        for partition, lag in reading.lags.items()
        if lag > MANY_WAITING and totals.grows(("lag", str(partition)), GROWTH_SPAN_S)
    }
    if growing:
        yield _incident(
            "ticket",
            "TokenpulseLagGrowing",
            f"{fmt.counted(sum(growing.values()), 'record')} of {_partition_list(growing)} wait, "
            "and the number grows: more records arrive than are counted.",
        )


def _coverage_incidents(reading: Reading) -> Iterator[Incident]:
    windows = [
        window for window, span in reading.spans.items() if not reading.coverage.complete(*span)
    ]
    if windows:
        lost = reading.coverage.lost_records
        cause = (
            f"{fmt.counted(lost, 'record')} {'is' if lost == 1 else 'are'} missing"
            if lost
            else "counting began in the middle of the log"
        )
        yield _incident(
            "ticket",
            "TokenpulseWindowIncomplete",
            f"The numbers over {fmt.enumeration(windows, len(windows))} are of a part of the "
            f"traffic only: {cause}.",
        )


def _rejection_incidents(totals: RecentTotals) -> Iterator[Incident]:
    reasons = {
        reason: totals.rise(("refused", reason), REJECTED_SPAN_S)
        for reason in totals.rises("refused")
    }
    rejected, counted = sum(reasons.values()), totals.rise(("counted", ""), REJECTED_SPAN_S)
    if rejected >= FEWEST_REFUSED and rejected > float(REFUSED_SHARE) * (rejected + counted):
        commonest = max(reasons, key=lambda reason: reasons[reason])
        yield _incident(
            "ticket",
            "TokenpulseRecordsRefused",
            f"{fmt.percent(rejected / (rejected + counted))} of the newest records are rejected "
            f"({fmt.count(rejected)}, {'all' if len(reasons) == 1 else 'mostly'} {commonest}): "
            "they are on the dead-letter topic and not counted.",
        )


def _overflow_incidents(totals: RecentTotals) -> Iterator[Incident]:
    for dimension, count in sorted(totals.rises("folded").items()):
        yield _incident(
            "ticket",
            "TokenpulseLabelsFolded",
            f"There are too many different values of {dimension}: {fmt.counted(count, 'event')} "
            "counted under __other__ in the last 15 minutes.",
        )


# -- words -----------------------------------------------------------------------------------------


def _calm_words(reading: Reading, workers: int) -> str:
    newest_s = _newest_event_s(reading)
    waiting = sum(reading.lags.values())
    workers_text = fmt.counted(workers, "worker")
    lag_text = "no record waits"
    if waiting:
        lag_text = f"{fmt.counted(waiting, 'record')} wait{'s' if waiting == 1 else ''}"
    if newest_s is None:
        return f"Up to date: no request was counted yet; {workers_text}."
    age_s = max(0.0, reading.now_s - newest_s)
    if age_s > QUIET_AFTER_S and not waiting:
        return f"Up to date: no request has arrived for {fmt.span(age_s)}; {workers_text}."
    return (
        f"Up to date: the newest request ended {fmt.span(age_s)} ago; {workers_text}, {lag_text}."
    )


def _newest_event_s(reading: Reading) -> float | None:
    newest_ms = [view.meta.watermark_ms for view in reading.views if view.meta.watermark_ms]
    return max(newest_ms) / 1_000 if newest_ms else None


def _partition_list(partitions: Iterable[int]) -> str:
    numbers = [str(number) for number in sorted(partitions)]
    return f"partition{'s' if len(numbers) > 1 else ''} {fmt.enumeration(numbers)}"


def _stale_incident(words: str) -> Incident:
    return _incident("page", "TokenpulseDataStale", words)


def _incident(severity: Severity, alert: str, words: str) -> Incident:
    return Incident(severity, words, runbook=alert, alert=alert)
