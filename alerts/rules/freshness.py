"""Rules about numbers that are not current.

Pure. Stale data must page before an operator trusts it or takes a silent alert for health.
`TokenpulseDataStale` pages, and silences all alerts that are derived from the state if no partition
is current. If only some are late, missing traffic is not judged: `_late_records`.
"""

from collections.abc import Iterator

from alerts.promql import INSTALLATION, aggregate, newest, number, seconds_text
from alerts.rules.model import Alert, page, silent, ticket
from exporters.catalogue import pipeline as catalogue_health
from slo.health_limits import BEHIND_AFTER_S, HALTED_MOST, STALE_AFTER_S
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

# One failed scrape ends no page. An alert that explains others lasts longer than they do, so that
# no page about its consequences comes while it ends: workers that return claim their partitions one
# after another, and heartbeats are as old as the failure when Redis or the exporter returns.
_KEEP_STALE_S = 30
_KEEP_WORKERS_S = 45
_KEEP_UNREAD_S = 60
# Missing traffic is judged again once the records that waited are counted, and traffic that stopped
# together with a worker had a minute to come back.
_KEEP_LATE_S = 60
# A partition catches up while its delay shrinks by this much a second, over this time: it counts
# three seconds of traffic in each second, and only a standstill of most of the span ends that.
_CATCHING_UP_RATE = 2
_TREND_S = 120
_PARTITION = ("partition",)
_WHICH = "partition {{ $labels.partition }}"


def freshness_alerts() -> Iterator[Alert]:
    """Yield all such alerts."""
    yield from _stale()
    yield _late_records()
    yield _disagree()


def _stale() -> Iterator[Alert]:
    pulse = newest(catalogue_health.PARTITION_PULSE, by=_PARTITION)
    broker = newest(catalogue_health.PARTITION_BROKER, by=_PARTITION)
    lag = newest(catalogue_health.PARTITION_LAG, by=_PARTITION)
    written = newest(catalogue_health.PARTITION_CHECKPOINT, by=_PARTITION)
    halted = newest(catalogue_health.PARTITION_HALTED, by=_PARTITION)
    fresh = newest(catalogue_health.PARTITION_FRESHNESS, by=_PARTITION)
    readable = newest(catalogue_health.STATE_READABLE)
    refreshed = newest(catalogue_health.EXPORTER_REFRESHED)
    age = "{{ $value | humanizeDuration }}"
    common = "Every number and every alert about requests may be out of date or missing."
    part = "Counts lack its newest requests; ratios of the other partitions stay true."
    yield page(
        "TokenpulseDataStale",
        f"{readable} == 0",
        "No exporter can read the state",
        f"No exporter can read the state from Redis, so all windows and totals are gone. {common}",
        "unreadable",
        "readable",
        15,
        _KEEP_UNREAD_S,
        cause="state",
    )
    yield page(
        "TokenpulseDataStale",
        f"time() - {refreshed} > {STALE_AFTER_S}",
        f"The exporters show numbers that are {age} old",
        f"The state was last read {age} ago; every second is usual. {common}",
        f"read {age} ago",
        f"at most {STALE_AFTER_S}s",
        0,
        _KEEP_UNREAD_S,
        cause="exporter",
    )
    newest_pulse = newest(catalogue_health.PARTITION_PULSE)
    yield page(
        "TokenpulseDataStale",
        f"time() - {newest_pulse} > {STALE_AFTER_S}",
        "No worker counts any partition",
        f"The last heartbeat of any worker is {age} old: all workers have stopped, or cannot "
        f"reach Redis. {common}",
        f"no heartbeat for {age}",
        f"at most {STALE_AFTER_S}s",
        0,
        _KEEP_WORKERS_S,
        cause="workers",
    )
    yield page(
        "TokenpulseDataStale",
        f"time() - {pulse} > {STALE_AFTER_S}",
        f"No worker counts {_WHICH}",
        f"The worker that owns {_WHICH} sent its last heartbeat {age} ago. {part}",
        f"no heartbeat for {age}",
        f"at most {STALE_AFTER_S}s",
        0,
        _KEEP_STALE_S,
        cause="worker",
    )
    # The heartbeat of a dead or frozen worker has an old answer too: so the answer's age is
    # taken at the heartbeat, and its own cause says more.
    yield page(
        "TokenpulseDataStale",
        f"{pulse} - {broker} > {BROKER_SILENT_AFTER_S}\nand time() - {pulse} <= {STALE_AFTER_S}",
        f"Kafka does not answer the worker of {_WHICH}",
        f"The worker that owns {_WHICH} had its last answer from Kafka {age} ago, so new records "
        f"are neither read nor known. {part}",
        f"no answer for {age}",
        f"at most {BROKER_SILENT_AFTER_S}s",
        0,
        _KEEP_STALE_S,
        cause="broker",
    )
    yield page(
        "TokenpulseDataStale",
        f"time() - {written} > {BEHIND_AFTER_S}\nand {lag} > 0\nunless {halted} == 1",
        f"Records wait, but {_WHICH} is not written",
        f"{_WHICH.capitalize()} was last written {age} ago though records wait in Kafka. {part}",
        f"written {age} ago",
        f"at most {BEHIND_AFTER_S}s while records wait",
        0,
        _KEEP_STALE_S,
        cause="checkpoint",
    )
    # Freshness does not grow in silence, so it counts only while records are written. A first load
    # of the past, and a backlog that is counted fast, need no person.
    trend = f"deriv({catalogue_health.PARTITION_FRESHNESS.name}[{seconds_text(_TREND_S)}])"
    yield page(
        "TokenpulseDataStale",
        f"{fresh} > {BEHIND_AFTER_S}\nand time() - {written} <= {BEHIND_AFTER_S}"
        f"\nand {aggregate('max', trend, (*INSTALLATION, *_PARTITION))} > -{_CATCHING_UP_RATE}",
        f"{_WHICH.capitalize()} is {age} behind",
        f"The newest event of {_WHICH} was {age} old when it was exported, and the delay does not "
        f"shrink by {_CATCHING_UP_RATE} s a second. {part}",
        f"{age} behind",
        f"at most {BEHIND_AFTER_S}s",
        15,
        _KEEP_STALE_S,
        cause="behind",
    )


def _late_records() -> Alert:
    """Return the alert that holds while records that wait may be what the token volume lacks.

    It goes to no person; while it fires, Alertmanager sends no page about missing traffic. A few
    halted partitions, which may stay halted for hours, explain no loss of most tokens.
    """
    pulse, broker, written, lag, fresh = (
        newest(spec, by=_PARTITION)
        for spec in (
            catalogue_health.PARTITION_PULSE,
            catalogue_health.PARTITION_BROKER,
            catalogue_health.PARTITION_CHECKPOINT,
            catalogue_health.PARTITION_LAG,
            catalogue_health.PARTITION_FRESHNESS,
        )
    )
    halted = newest(catalogue_health.PARTITION_HALTED, by=_PARTITION)
    late = (
        f"time() - {pulse} > {STALE_AFTER_S}\nor {pulse} - {broker} > {BROKER_SILENT_AFTER_S}"
        f"\nor time() - {written} > {BEHIND_AFTER_S} and {lag} > 0 unless {halted} == 1"
        f"\nor {fresh} > {BEHIND_AFTER_S} and time() - {written} <= {BEHIND_AFTER_S}"
    )
    count = aggregate("count", f"{halted} == 1", INSTALLATION)
    every = aggregate("count", pulse, INSTALLATION)
    return silent(
        "TokenpulseOutageExplains",
        f"{aggregate('count', late, INSTALLATION)}\nor {count} / {every} >= {number(HALTED_MOST)}",
        "Records that wait explain the low token volume",
        "Sent to no person. While it fires, Alertmanager sends no page about missing traffic.",
        "{{ $value | humanize }}",
        "silent while all partitions are current",
        0,
        _KEEP_LATE_S,
        explains="late",
    )


def _disagree() -> Alert:
    offset = catalogue_health.PARTITION_OFFSET.name
    by = (*INSTALLATION, "partition")
    least, most = aggregate("min", offset, by), aggregate("max", offset, by)
    before = aggregate("max", f"{offset} offset 2m", by)
    return ticket(
        "TokenpulseExportersDisagree",
        f"{before} - {least} > 0\nand {most} >= {before}",
        f"One exporter shows an older state of {_WHICH} than another",
        "One exporter is {{ $value }} records behind what another showed two minutes ago. It "
        "reads another Redis or a replica that is behind, or it has stopped refreshing.",
        "{{ $value }} records apart",
        "none after 2m",
        60,
    )
