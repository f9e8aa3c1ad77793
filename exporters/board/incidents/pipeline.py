"""Incidents of Tokenpulse itself and of its sources in words. Pure but for the recent totals.

Whether an alert holds comes from the rules (alerts.py); this module words it. TokenpulseDataStale
is worded by data_quality.py, as it decides how far the numbers can be trusted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporters import formatting as fmt
from exporters.board.alerts import LAG_GROWING, WINDOW_INCOMPLETE, severity_of
from exporters.board.facts import Incident
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.incidents.recent_totals import SPAN_S, RecentTotals
from exporters.board.input import BoardInput
from slo.alert_state import AlertState
from streams.state.snapshot import Gap

HALTED = "TokenpulsePartitionHalted"
_REJECTED_SPAN_S = 300.0


@dataclass(frozen=True, slots=True)
class _ActiveAlert:
    """The states of one alert, and the numbers for its words."""

    states: Sequence[AlertState]
    reading: BoardInput
    totals: RecentTotals

    @property
    def partitions(self) -> str:
        return _partitions(self.states)

    @property
    def workers(self) -> str:
        return _list("worker", sorted(state.series["worker"] for state in self.states))


def pipeline_incidents(reading: BoardInput, totals: RecentTotals) -> Iterator[Incident]:
    """Yield the incidents of all pipeline alerts but TokenpulseDataStale."""
    for alert, words_of in _WORDS.items():
        if states := reading.alerts.named(alert):
            severity = severity_of(states[0])
            for words in words_of(_ActiveAlert(states, reading, totals)):
                yield Incident(
                    severity,
                    words,
                    alert,
                    alert,
                    incident_key(alert, _place(states)),
                    notification_of(states),
                    where=tuple(pair for state in states for pair in state.series.items()),
                    group=alert,
                )


def _place(states: Sequence[AlertState]) -> str:
    """Return the place of an alert, from its labels."""
    return ",".join(sorted("=".join(pair) for state in states for pair in state.series.items()))


def partition_list(partitions: Iterable[int]) -> str:
    """Return partitions in words: `partition 3`, `partitions 1 and 2`."""
    return _list("partition", map(str, sorted(partitions)))


def _partitions(states: Sequence[AlertState]) -> str:
    return partition_list(int(state.series["partition"]) for state in states)


def _list(noun: str, names: Iterable[str]) -> str:
    listed = list(names)
    return f"{noun}{'s' if len(listed) > 1 else ''} {fmt.enumeration(listed)}"


# -- partitions ------------------------------------------------------------------------------------


def _halt_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in sorted(alert.states, key=lambda state: int(state.series["partition"])):
        yield (
            f"Partition {state.series['partition']} is halted ({state.series['reason']}): its "
            "records are not counted until an operator resumes it."
        )


def _loss_words(alert: _ActiveAlert) -> Iterator[str]:
    gaps = [
        gap
        for gap in alert.reading.coverage.gaps
        if gap.to_ms is None or gap.to_ms / 1_000 > alert.reading.now_s - SPAN_S
    ]
    # A backlog has gaps of an older time than that at which the worker meets them.
    gaps = gaps or list(alert.reading.coverage.gaps[-1:])
    if not gaps:
        yield f"Records of {alert.partitions} were lost."
        return
    lost = sum(gap.records for gap in gaps)
    subject = f"{fmt.counted(lost, 'record')} {'was' if lost == 1 else 'were'} lost {_when(gaps)}"
    yield f"{subject}: gone from Kafka before they were counted, or skipped by an operator."


def _when(gaps: Sequence[Gap]) -> str:
    since = f"{fmt.clock(gaps[0].from_ms / 1_000)} UTC"
    last_ms = gaps[-1].to_ms
    if last_ms is None:
        return f"since {since}"
    return f"from {since} to {fmt.clock(last_ms / 1_000)} UTC"


def _state_loss_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        f"The state of {alert.partitions} was missing in Redis and is rebuilt from the archive "
        "and Kafka."
    )


def _dropped_id_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        f"There is no room for all request ids of {alert.partitions}: duplicates of the oldest "
        "would count twice. Raise worker.dedup_max_ids."
    )


def _lag_words(alert: _ActiveAlert) -> Iterator[str]:
    waiting = round(sum(state.value for state in alert.states))
    yield (
        f"{fmt.counted(waiting, 'record')} of {alert.partitions} wait, and the number grows: more "
        "records arrive than are counted."
    )


def _memory_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        cause, share = state.rule_labels.get("cause", ""), fmt.percent(state.value)
        if cause == "redis":
            yield f"Redis uses {share} of its maxmemory: at the limit it rejects every write."
        else:
            which = " ".join(filter(None, (cause, state.series.get("worker", ""))))
            yield (
                f"{fmt.capitalize(which)} uses {share} of its memory: above the limit the kernel "
                "ends it."
            )


def _archive_words(alert: _ActiveAlert) -> Iterator[str]:
    age = fmt.span(max(state.value for state in alert.states))
    yield (
        f"The newest archive of {alert.partitions} is {age} old: if Redis lost its data now, "
        "the state would be rebuilt from it and Kafka."
    )


def _clock_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        process = state.series["process"]
        which = "the exporter" if process == "exporter" else f"worker {process}"
        needed = "" if process == "exporter" else " for which it needs this worker"
        if state.rule_labels.get("cause") == "unchecked":
            fault = (
                f"Redis does not give its time to {which}, or too slowly to prove that both agree"
            )
        else:
            fault = f"The clock of {which} differs by {fmt.span(state.value)} from that of Redis"
        yield (
            f"{fault}. Until their clocks agree, the exporter closes no period and finalises no "
            f"day{needed}."
        )


# -- workers ---------------------------------------------------------------------------------------


def _rollback_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        f"Redis was set back behind what {alert.workers} had written: a failover lost the "
        "latest writes. The records are read again, so none is lost."
    )


def _conflict_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        f"A checkpoint of {alert.workers} was rejected: another process writes this state, or "
        "an operator restored it."
    )


def _store_error_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        f"Writes of {alert.workers} to Redis fail: Redis is slow, full or away. Each is tried "
        "again, so no record is lost."
    )


# -- sources ---------------------------------------------------------------------------------------


def _silent_source_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        expected = fmt.counted(round(state.value), "event")
        yield (
            f"Source {state.series['source']} is silent: by now it usually had sent {expected}. "
            "Its requests have stopped, or are not seen."
        )


def _usage_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        yield (
            f"Source {state.series['source']} sends token counts for {fmt.percent(state.value)} of "
            "its answers, less than half of the usual share: sums of tokens are too small."
        )


def _sample_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        yield (
            f"Source {state.series['source']} sends sampled traces ({fmt.percent(state.value)} of "
            "its events): all its counts are too small."
        )


def _scope_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        yield (
            f"Source {state.series['source']} sends spans of the new scope "
            f"{state.series['span_scope']}, which no profile takes: requests in them are not "
            "counted."
        )


# -- records and windows ---------------------------------------------------------------------------


def _rejection_words(alert: _ActiveAlert) -> Iterator[str]:
    reasons = {
        reason: alert.totals.rise(("rejected", reason), _REJECTED_SPAN_S)
        for reason in alert.totals.rises("rejected")
    }
    rejected, counted = sum(reasons.values()), alert.totals.rise(("counted", ""), _REJECTED_SPAN_S)
    share, which = alert.states[0].value, ""
    if rejected:  # the exact share; the value of the alert is extrapolated
        share = rejected / (rejected + counted)
        commonest = max(reasons, key=lambda reason: reasons[reason])
        only = "all" if len(reasons) == 1 else "mostly"
        which = f" ({fmt.count(rejected)}, {only} {commonest})"
    yield (
        f"{fmt.percent(share)} of the newest records are rejected{which}: they are on the "
        "dead-letter topic and not counted."
    )


def _nothing_counted_words(alert: _ActiveAlert) -> Iterator[str]:
    yield (
        "Records arrive, but all of the last minutes were rejected or duplicates: no request is "
        "counted."
    )


def _unreported_words(alert: _ActiveAlert) -> Iterator[str]:
    for state in alert.states:
        yield (
            f"Cached tokens of model {state.series['model']} are no longer reported: they are "
            f"known for {fmt.percent(state.value)} of the input tokens of the last hour, less than "
            "half of the usual share."
        )


def _overflow_words(alert: _ActiveAlert) -> Iterator[str]:
    for dimension in sorted(state.series["dimension"] for state in alert.states):
        count = alert.totals.rise(("overflowed", dimension))
        events = f"{fmt.counted(count, 'event')} counted" if count else "events are counted"
        yield (
            f"There are too many different values of {dimension}: {events} under __other__ in the "
            "last 15 minutes."
        )


def _window_words(alert: _ActiveAlert) -> Iterator[str]:
    names = {state.series["window"] for state in alert.states}
    windows = [window for window in alert.reading.spans if window in names]
    lost = alert.reading.coverage.lost_records
    cause = "counting began in the middle of the log"
    if lost:
        cause = f"{fmt.counted(lost, 'record')} {'is' if lost == 1 else 'are'} missing"
    yield (
        f"The numbers over {fmt.enumeration(windows, len(windows))} are of a part of the traffic "
        f"only: {cause}."
    )


# In the order of the board, within one severity.
_WORDS: Mapping[str, Callable[[_ActiveAlert], Iterator[str]]] = {
    HALTED: _halt_words,
    "TokenpulseRecordsLost": _loss_words,
    "TokenpulseStateLost": _state_loss_words,
    "TokenpulseStateRolledBack": _rollback_words,
    "TokenpulseStateConflict": _conflict_words,
    "TokenpulseStoreErrors": _store_error_words,
    "TokenpulseDuplicateWindowForgotten": _dropped_id_words,
    LAG_GROWING: _lag_words,
    "TokenpulseNothingCounted": _nothing_counted_words,
    "TokenpulseRecordsRefused": _rejection_words,
    "TokenpulseSourceSilent": _silent_source_words,
    "TokenpulseSourceUsageMissing": _usage_words,
    "TokenpulseSourceSampled": _sample_words,
    "TokenpulseSourceScopeNew": _scope_words,
    "TokenpulseCachedTokensUnreported": _unreported_words,
    "TokenpulseLabelsFolded": _overflow_words,
    "TokenpulseArchiveOld": _archive_words,
    "TokenpulseMemoryNearLimit": _memory_words,
    "TokenpulseClockOff": _clock_words,
    WINDOW_INCOMPLETE: _window_words,
}
WORDED = frozenset(_WORDS)
