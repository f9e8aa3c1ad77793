"""What is wrong with Tokenpulse itself, in words. Pure but for the recent totals.

Whether an alert holds comes from the rules (alerts.py); this module words it. TokenpulseDataStale
is worded by data_quality.py, as it decides how far the numbers can be trusted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from exporters import formatting as fmt
from exporters.board.alerts import WINDOW_INCOMPLETE, severity_of
from exporters.board.facts import Incident
from exporters.board.input import Reading
from exporters.board.recent_totals import SPAN_S, RecentTotals
from slo.alert_state import AlertState
from streams.state.snapshot import Gap

HALTED = "TokenpulsePartitionHalted"
_REJECTED_SPAN_S = 300.0
_Words = Callable[[Reading, Sequence[AlertState], RecentTotals], Iterator[str]]


def pipeline_incidents(reading: Reading, totals: RecentTotals) -> Iterator[Incident]:
    """Yield the incidents of all pipeline alerts but TokenpulseDataStale."""
    for alert, words_of in _WORDS.items():
        if states := reading.alerts.of_pipeline(alert):
            severity = severity_of(states[0])
            for words in words_of(reading, states, totals):
                yield Incident(severity, words, alert, alert)


def partition_list(partitions: Iterable[int]) -> str:
    """Return partitions in words: `partition 3`, `partitions 1 and 2`."""
    return _list("partition", map(str, sorted(partitions)))


def _partitions(states: Sequence[AlertState]) -> str:
    return partition_list(int(state.series["partition"]) for state in states)


def _workers(states: Sequence[AlertState]) -> str:
    return _list("worker", sorted(state.series["worker"] for state in states))


def _list(noun: str, names: Iterable[str]) -> str:
    listed = list(names)
    return f"{noun}{'s' if len(listed) > 1 else ''} {fmt.enumeration(listed)}"


# -- partitions ------------------------------------------------------------------------------------


def _halted(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    for state in sorted(states, key=lambda state: int(state.series["partition"])):
        yield (
            f"Partition {state.series['partition']} is halted ({state.series['reason']}): its "
            "records are not counted until an operator resumes it."
        )


def _records_lost(reading: Reading, states: Sequence[AlertState], _: RecentTotals) -> Iterator[str]:
    gaps = [
        gap
        for gap in reading.coverage.gaps
        if gap.to_ms is None or gap.to_ms / 1_000 > reading.now_s - SPAN_S
    ]
    # A backlog has gaps of an older time than that at which the worker meets them.
    gaps = gaps or list(reading.coverage.gaps[-1:])
    if not gaps:
        yield f"Records of {_partitions(states)} were lost."
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


def _state_lost(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    yield (
        f"The state of {_partitions(states)} was missing in Redis and is rebuilt from the archive "
        "and Kafka."
    )


def _ids_forgotten(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    yield (
        f"There is no room for all request ids of {_partitions(states)}: duplicates of the oldest "
        "would count twice. Raise worker.dedup_max_ids."
    )


def _lag_growing(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    # The slope of a few samples is noise, so this one is shown only once it fires.
    if growing := [state for state in states if state.firing_since_s is not None]:
        waiting = round(sum(state.value for state in growing))
        yield (
            f"{fmt.counted(waiting, 'record')} of {_partitions(growing)} wait, and the number "
            "grows: more records arrive than are counted."
        )


def _archive_old(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    age = fmt.span(max(state.value for state in states))
    yield (
        f"The newest archive of {_partitions(states)} is {age} old: if Redis lost its data now, "
        "the state would be rebuilt from it and Kafka."
    )


# -- workers ---------------------------------------------------------------------------------------


def _rolled_back(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    yield (
        f"Redis was set back behind what {_workers(states)} had written: a failover lost the "
        "latest writes. The records are read again, so none is lost."
    )


def _conflict(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    yield (
        f"A checkpoint of {_workers(states)} was rejected: another process writes this state, or "
        "an operator restored it."
    )


def _store_errors(_: Reading, states: Sequence[AlertState], __: RecentTotals) -> Iterator[str]:
    yield (
        f"Writes of {_workers(states)} to Redis fail: Redis is slow, full or away. Each is tried "
        "again, so no record is lost."
    )


# -- records and windows ---------------------------------------------------------------------------


def _rejected(_: Reading, states: Sequence[AlertState], totals: RecentTotals) -> Iterator[str]:
    reasons = {
        reason: totals.rise(("rejected", reason), _REJECTED_SPAN_S)
        for reason in totals.rises("rejected")
    }
    rejected, counted = sum(reasons.values()), totals.rise(("counted", ""), _REJECTED_SPAN_S)
    share, which = states[0].value, ""
    if rejected:  # the exact share; the value of the alert is extrapolated
        share = rejected / (rejected + counted)
        commonest = max(reasons, key=lambda reason: reasons[reason])
        only = "all" if len(reasons) == 1 else "mostly"
        which = f" ({fmt.count(rejected)}, {only} {commonest})"
    yield (
        f"{fmt.percent(share)} of the newest records are rejected{which}: they are on the "
        "dead-letter topic and not counted."
    )


def _overflowed(_: Reading, states: Sequence[AlertState], totals: RecentTotals) -> Iterator[str]:
    for dimension in sorted(state.series["dimension"] for state in states):
        count = totals.rise(("overflowed", dimension))
        events = f"{fmt.counted(count, 'event')} counted" if count else "events are counted"
        yield (
            f"There are too many different values of {dimension}: {events} under __other__ in the "
            "last 15 minutes."
        )


def _incomplete(reading: Reading, states: Sequence[AlertState], _: RecentTotals) -> Iterator[str]:
    names = {state.series["window"] for state in states}
    windows = [window for window in reading.spans if window in names]
    lost = reading.coverage.lost_records
    cause = "counting began in the middle of the log"
    if lost:
        cause = f"{fmt.counted(lost, 'record')} {'is' if lost == 1 else 'are'} missing"
    yield (
        f"The numbers over {fmt.enumeration(windows, len(windows))} are of a part of the traffic "
        f"only: {cause}."
    )


# In the order of the board, within one severity.
_WORDS: Mapping[str, _Words] = {
    HALTED: _halted,
    "TokenpulseRecordsLost": _records_lost,
    "TokenpulseStateLost": _state_lost,
    "TokenpulseStateRolledBack": _rolled_back,
    "TokenpulseStateConflict": _conflict,
    "TokenpulseStoreErrors": _store_errors,
    "TokenpulseDuplicateWindowForgotten": _ids_forgotten,
    "TokenpulseLagGrowing": _lag_growing,
    "TokenpulseRecordsRefused": _rejected,
    "TokenpulseLabelsFolded": _overflowed,
    "TokenpulseArchiveOld": _archive_old,
    WINDOW_INCOMPLETE: _incomplete,
}
WORDED = frozenset(_WORDS)
