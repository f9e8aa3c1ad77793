"""Whether the numbers can be trusted, and what is wrong with Tokenpulse itself.

Pure but for the history of totals. The conditions are those of the pipeline's alerts
(alerts/rules/pipeline.py), told at once.
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
from streams.state.slices import PROBES_AT, refused_of
from streams.state.snapshot import Gap

REFUSED_SPAN_S = 300.0
GROWS_FOR_S = 60.0
QUIET_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class DataQuality:
    """What is to be thought of the numbers."""

    freshness: Freshness
    incidents: tuple[Incident, ...]
    stale: bool  # numbers are old, or of a part of the partitions only
    blind: bool  # no partition is counted: what is derived from the numbers is worth nothing


def data_quality(
    reading: Reading, window: str, history: RecentTotals, stale_after_s: float
) -> DataQuality:
    """`window`: of the board's numbers. `stale_after_s`: age of a sign of life from which on its
    worker counts as gone; later than the alert it is not."""
    history.note(reading.now_s, _totals(reading))
    gone_after_s = min(stale_after_s, STALE_AFTER_S)
    gone = _gone(reading, gone_after_s)
    behind = _behind(reading, gone)
    stale = [*_gone_told(reading, gone), *_behind_told(reading, behind)]
    halted = list(_halted(reading))
    others = [
        *_lost(reading),
        *_state_lost(history),
        *_growing(reading, history),
        *_refused(history),
        *_folded(history),
    ]
    complete = reading.coverage.complete(*reading.spans[window])
    watched = {view.partition for view in reading.views} | {one.partition for one in reading.signs}
    workers = {
        sign.text("worker")
        for sign in reading.signs
        if (age_s := sign.age_s(reading.now_s)) is not None and age_s <= gone_after_s
    }
    state: State = "ok"
    if stale or halted:
        state = "breached"
    elif others or not complete:
        state = "at_risk"
    newest_s = _newest_s(reading)
    lag = sum(reading.lags.values()) if reading.lags else None
    freshness = Freshness(
        state=state,
        words=[*stale, *halted][0].words if stale or halted else _fine(reading, len(workers)),
        newest_event_age_s=None if newest_s is None else max(0.0, reading.now_s - newest_s),
        lag_records=lag,
        workers=len(workers),
        complete=complete,
    )
    return DataQuality(
        freshness,
        (*stale, *halted, *others, *_incomplete(reading)),
        stale=bool(stale),
        blind=bool(watched) and watched == {*gone, *behind},
    )


def _totals(reading: Reading) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {("lag", str(one)): lag for one, lag in reading.lags.items()}
    found["counted", ""] = 0
    for view in reading.views:
        partition = str(view.partition)
        found["rebuilt", partition] = view.meta.rebuilt
        found["counted", ""] += int(view.totals.series.values[:, :PROBES_AT].sum())
        for dimension, count in view.meta.folded.items():
            found["folded", dimension] = found.get(("folded", dimension), 0) + count
        for reason, count in refused_of(view.totals).items():
            found["refused", reason] = found.get(("refused", reason), 0) + count
    return found


# -- stale -----------------------------------------------------------------------------------------


def _gone(reading: Reading, gone_after_s: float) -> dict[int, float | None]:
    """Partitions nobody counts, and the age of the last sign of life."""
    signs = {sign.partition: sign.age_s(reading.now_s) for sign in reading.signs}
    every = {view.partition for view in reading.views} | signs.keys()
    ages = {partition: signs.get(partition) for partition in sorted(every)}
    return {one: age_s for one, age_s in ages.items() if age_s is None or age_s > gone_after_s}


def _gone_told(reading: Reading, gone: dict[int, float | None]) -> Iterator[Incident]:
    if not gone:
        return
    every = {view.partition for view in reading.views} | {one.partition for one in reading.signs}
    ages_s = [age_s for age_s in gone.values() if age_s is not None]
    since = f"for {fmt.span(min(ages_s))}" if ages_s else "yet"
    if len(gone) == len(every):
        newest_s = _newest_s(reading)
        counted = (
            "" if newest_s is None else f": nothing after {fmt.clock(newest_s)} UTC is counted"
        )
        yield _stale(f"No worker has given a sign of life {since}{counted}.")
    else:
        yield _stale(
            f"Nobody counts {_partitions(gone)} of {len(every)}: no sign of life {since}, so a "
            "part of the traffic is missing."
        )


def _behind(reading: Reading, gone: dict[int, float | None]) -> dict[int, float]:
    """Partitions that are counted too late, and by how much."""
    halted = {sign.partition for sign in reading.signs if sign.text("halted")}
    found: dict[int, float] = {}
    for view in reading.views:
        if view.partition in gone or view.partition in halted:
            continue
        written_s = reading.now_s - view.meta.written_at_ms / 1_000
        fresh_s = reading.freshness_s.get(view.partition, 0.0)
        if written_s > BEHIND_AFTER_S and reading.lags.get(view.partition, 0) > 0:
            found[view.partition] = written_s
        elif fresh_s > BEHIND_AFTER_S >= written_s:
            found[view.partition] = fresh_s
    return found


def _behind_told(reading: Reading, behind: dict[int, float]) -> Iterator[Incident]:
    if behind:
        waiting = sum(reading.lags.get(partition, 0) for partition in behind)
        records = f", and {fmt.counted(waiting, 'record')} wait" if waiting else ""
        yield _stale(
            f"{fmt.capitalize(_partitions(behind))} {'is' if len(behind) == 1 else 'are'} "
            f"{fmt.span(max(behind.values()))} behind{records}."
        )


def _halted(reading: Reading) -> Iterator[Incident]:
    for sign in reading.signs:
        if reason := sign.text("halted"):
            yield _told(
                "page",
                "TokenpulsePartitionHalted",
                f"Partition {sign.partition} is halted ({reason}): none of its records is counted "
                "until a person has looked.",
            )


# -- missing, refused, waiting ---------------------------------------------------------------------


def _lost(reading: Reading) -> Iterator[Incident]:
    recent = [
        gap
        for gap in reading.coverage.gaps
        if gap.to_ms is None or gap.to_ms / 1_000 > reading.now_s - SPAN_S
    ]
    if recent:
        lost = sum(gap.records for gap in recent)
        yield _told(
            "page",
            "TokenpulseRecordsLost",
            f"{fmt.counted(lost, 'record')} {'was' if lost == 1 else 'were'} lost {_when(recent)}: "
            "gone from Kafka before they were counted, or skipped by an operator.",
        )


def _when(gaps: Sequence[Gap]) -> str:
    since = f"{fmt.clock(gaps[0].from_ms / 1_000)} UTC"
    last_ms = gaps[-1].to_ms
    return (
        f"since {since}" if last_ms is None else f"from {since} to {fmt.clock(last_ms / 1e3)} UTC"
    )


def _state_lost(history: RecentTotals) -> Iterator[Incident]:
    if risen := history.risen("rebuilt"):
        yield _told(
            "page",
            "TokenpulseStateLost",
            f"The state of {_partitions(sorted(map(int, risen)))} was gone from Redis and is built "
            "again from the archive and Kafka.",
        )


def _growing(reading: Reading, history: RecentTotals) -> Iterator[Incident]:
    growing = {
        partition: lag
        for partition, lag in reading.lags.items()
        if lag > MANY_WAITING and history.grows(("lag", str(partition)), GROWS_FOR_S)
    }
    if growing:
        lag = sum(growing.values())
        yield _told(
            "ticket",
            "TokenpulseLagGrowing",
            f"{fmt.counted(lag, 'record')} of {_partitions(growing)} wait, and more and more: more "
            "come than are counted.",
        )


def _incomplete(reading: Reading) -> Iterator[Incident]:
    windows = [
        window for window, span in reading.spans.items() if not reading.coverage.complete(*span)
    ]
    if windows:
        lost = reading.coverage.lost_records
        why = (
            f"{fmt.counted(lost, 'record')} {'is' if lost == 1 else 'are'} missing"
            if lost
            else "counting began in the middle of the log"
        )
        yield _told(
            "ticket",
            "TokenpulseWindowIncomplete",
            f"The numbers over {fmt.enumeration(windows, len(windows))} are of a part of the "
            f"traffic only: {why}.",
        )


def _refused(history: RecentTotals) -> Iterator[Incident]:
    reasons = {
        reason: history.rise(("refused", reason), REFUSED_SPAN_S)
        for reason in history.risen("refused")
    }
    refused, counted = sum(reasons.values()), history.rise(("counted", ""), REFUSED_SPAN_S)
    if refused >= FEWEST_REFUSED and refused > float(REFUSED_SHARE) * (refused + counted):
        most = max(reasons, key=lambda reason: reasons[reason])
        yield _told(
            "ticket",
            "TokenpulseRecordsRefused",
            f"{fmt.percent(refused / (refused + counted))} of the newest records are refused "
            f"({refused:,}, {'all' if len(reasons) == 1 else 'mostly'} {most}): they are on the "
            "dead-letter topic and count nowhere.",
        )


def _folded(history: RecentTotals) -> Iterator[Incident]:
    for dimension, count in sorted(history.risen("folded").items()):
        yield _told(
            "ticket",
            "TokenpulseLabelsFolded",
            f"There are too many different values of {dimension}: {fmt.counted(count, 'event')} "
            "counted under __other__ in the last 15 minutes.",
        )


# -- small pieces ----------------------------------------------------------------------------------


def _fine(reading: Reading, workers: int) -> str:
    newest_s = _newest_s(reading)
    waiting = sum(reading.lags.values())
    crew = fmt.counted(workers, "worker")
    waits = "nothing waits"
    if waiting:
        waits = f"{fmt.counted(waiting, 'record')} wait{'s' if waiting == 1 else ''}"
    if newest_s is None:
        return f"Up to date: no request was ever counted; {crew}."
    age_s = max(0.0, reading.now_s - newest_s)
    if age_s > QUIET_AFTER_S and not waiting:
        return f"Up to date: no request has come for {fmt.span(age_s)}; {crew}."
    return f"Up to date: the newest request ended {fmt.span(age_s)} ago; {crew}, {waits}."


def _newest_s(reading: Reading) -> float | None:
    seen = [view.meta.watermark_ms for view in reading.views if view.meta.watermark_ms is not None]
    return max(seen) / 1_000 if seen else None


def _partitions(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in sorted(numbers)]
    return f"partition{'s' if len(listed) > 1 else ''} {fmt.enumeration(listed)}"


def _stale(said: str) -> Incident:
    return _told("page", "TokenpulseDataStale", said)


def _told(severity: Severity, alert: str, said: str) -> Incident:
    return Incident(severity, said, runbook=alert, alert=alert)
