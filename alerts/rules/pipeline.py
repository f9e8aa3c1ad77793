"""Rules about Tokenpulse's own health, which need no policy.

Pure. Stale data must page before an operator trusts it or takes a silent alert for health.
`TokenpulseDataStale` pages, and silences all alerts that are derived from the state if no partition
is current. If only some are late, missing traffic is not judged: `_late_records`.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from alerts.promql import (
    INSTALLATION,
    aggregate,
    any_of,
    newest,
    number,
    on,
    seconds_text,
    total_of,
)
from alerts.rules.memory import memory_alerts
from alerts.rules.model import KEEP_FIRING_S, Alert, Group, Read, page, silent, ticket
from alerts.rules.sources import source_alerts
from exporters.catalogue import pipeline as catalogue_health
from exporters.catalogue import requests as catalogue
from exporters.catalogue.spec import Spec
from slo.health_limits import (
    ARCHIVE_STALE_AFTER_INTERVALS,
    BEHIND_AFTER_S,
    BUSY_MIN_REQUESTS,
    DUPLICATES_OF_USUAL,
    FEWEST_DUPLICATES,
    FEWEST_REFUSED,
    FEWEST_REFUSED_PAGE,
    HALTED_MOST,
    MANY_WAITING,
    REFUSED_MOST,
    REFUSED_SHARE,
    STALE_AFTER_S,
)
from slo.policy.units import percent_text
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

# One failed scrape ends no page. Heartbeats are as old as the failure when Redis or the exporter
# returns, so the alerts on these last longer than those on workers.
_KEEP_STALE_S = 30
_KEEP_UNREAD_S = 45
# Missing traffic is judged again once the records that waited are counted, and traffic that stopped
# together with a worker had a minute to come back.
_KEEP_LATE_S = 60
_DAY = "24h"
_PARTITION = ("partition",)
_WHICH = "partition {{ $labels.partition }}"


def pipeline_groups() -> tuple[Group, ...]:
    """Return the groups of all such rules."""
    return (
        Group("tokenpulse-freshness", (*_stale(), _late_records(), _disagree())),
        Group("tokenpulse-state", (*_state(), *_counter_alerts())),
        Group("tokenpulse-flow", (_lag(), *_rejection_alerts(), _empty_count_alert())),
        Group("tokenpulse-memory", tuple(memory_alerts())),
        Group("tokenpulse-sources", tuple(source_alerts())),
    )


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
        _KEEP_STALE_S,
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
    # Freshness does not grow in silence, so it counts only while records are written.
    yield page(
        "TokenpulseDataStale",
        f"{fresh} > {BEHIND_AFTER_S}\nand time() - {written} <= {BEHIND_AFTER_S}",
        f"{_WHICH.capitalize()} is {age} behind",
        f"The newest event of {_WHICH} was {age} old when it was exported. {part}",
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


def _state() -> Iterator[Alert]:
    halted = newest(catalogue_health.PARTITION_HALTED, by=("partition", "reason"))
    complete = newest(catalogue.WINDOW_COMPLETE, by=("window",))
    archived = newest(catalogue_health.PARTITION_ARCHIVE, by=_PARTITION)
    interval = newest(catalogue_health.ARCHIVE_INTERVAL)
    age = "{{ $value | humanizeDuration }}"
    yield page(
        "TokenpulsePartitionHalted",
        f"{halted} == 1",
        f"{_WHICH.capitalize()} is halted: {{{{ $labels.reason }}}}",
        f"A worker stopped counting {_WHICH} until an operator decides: {{{{ $labels.reason }}}}. "
        "`tokenpulse partitions list` shows where and why.",
        "halted",
        "counted",
        10,
    )
    yield ticket(
        "TokenpulseWindowIncomplete",
        f"{complete} == 0",
        "The window {{ $labels.window }} covers only part of the traffic",
        "Records of the window {{ $labels.window }} are missing, so its numbers do not cover all "
        "traffic.",
        "incomplete",
        "complete",
        60,
    )
    yield ticket(
        "TokenpulseArchiveOld",
        f"time() - {archived} > {on()} group_left () "
        f"({ARCHIVE_STALE_AFTER_INTERVALS} * {interval})",
        f"The archive of {_WHICH} is {age} old",
        "If Redis lost its data now, counts older than Kafka's retention would be restored from "
        f"an archive that is {age} old.",
        f"{age} old",
        f"at most {ARCHIVE_STALE_AFTER_INTERVALS} times worker.archive_interval_s",
        60,
    )


def _counter_alerts() -> Iterator[Alert]:
    """Yield the alerts on counters of which every increase matters."""
    yield page(
        "TokenpulseRecordsLost",
        _increase(catalogue_health.LOST_RECORDS, "15m", "partition"),
        f"{{{{ $value | humanize }}}} records of {_WHICH} were lost",
        "Kafka deleted them before they were counted, or an operator skipped them. Windows that "
        "contain them are incomplete.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield page(
        "TokenpulseStateLost",
        _increase(catalogue_health.STATE_LOSSES, "15m", "partition"),
        f"Redis lost the state of {_WHICH}",
        "The worker rebuilds it from the archive and Kafka. Records that neither contains are "
        "missing; tokenpulse_window_complete is 0 for the windows concerned.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield ticket(
        "TokenpulseStateRolledBack",
        _increase(catalogue_health.STATE_ROLLBACKS, "15m", "worker"),
        "Redis lost the latest writes of a worker",
        "Worker {{ $labels.worker }} found an older state than it had written: a failover lost "
        "the latest writes. The worker reads the records again, so no record is lost.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield ticket(
        "TokenpulseStateConflict",
        _increase(catalogue_health.WORKER_CONFLICTS, "15m", "worker"),
        "The state was changed under a running worker",
        "A checkpoint of worker {{ $labels.worker }} was rejected, as the stored offset was not "
        "the expected one: another process writes this state, or an operator restored it.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield ticket(
        "TokenpulseStoreErrors",
        _increase(catalogue_health.WORKER_STORE_ERRORS, "5m", "worker", over=10),
        "Writes to Redis fail",
        "Worker {{ $labels.worker }} retries each write, so no record is lost; but Redis is slow, "
        "full or unreachable.",
        "{{ $value | humanize }} in 5m",
        "at most 10 in 5m",
    )
    yield ticket(
        "TokenpulseDuplicateWindowForgotten",
        _increase(catalogue_health.DUPLICATE_WINDOW_FORGOTTEN, "15m", "partition"),
        f"{_WHICH.capitalize()} forgets request ids too early",
        "There was no room for {{ $value | humanize }} request ids: duplicates of these requests "
        "would count twice. Raise worker.dedup_max_ids.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield ticket(
        "TokenpulseLabelsFolded",
        _increase(catalogue.FOLDED_TOTAL, "15m", "dimension"),
        "Too many different values of {{ $labels.dimension }}",
        "{{ $value | humanize }} events were counted under __other__ instead of their own "
        "{{ $labels.dimension }}. Raise worker.limits, or find the client that sends such names.",
        "{{ $value | humanize }} events in 15m",
        "none",
    )


def _lag() -> Alert:
    lag = catalogue_health.PARTITION_LAG.name
    by = (*INSTALLATION, "partition")
    return ticket(
        "TokenpulseLagGrowing",
        f"{aggregate('max', lag, by)} > {MANY_WAITING}"
        f"\nand {aggregate('max', f'deriv({lag}[10m])', by)} > 0",
        f"{{{{ $value | humanize }}}} records of {_WHICH} wait, and the number grows",
        "More records arrive than are counted: add workers, or find the bottleneck.",
        "{{ $value | humanize }} records wait",
        f"at most {MANY_WAITING}, or falling",
        300,
    )


def _rate(spec: Spec, labels: tuple[str, ...], span: str = "5m") -> str:
    """Return PromQL for the rate of a counter over a span, summed over its labels."""
    return total_of(aggregate("max", f"rate({spec.name}[{span}])", (*INSTALLATION, *labels)))


def _rejection_alerts() -> Iterator[Alert]:
    """Yield the alerts on the share of rejected records.

    A share, so that a burst after an outage does not fire; nor does one broken record. If most
    records are rejected, the page comes before that on missing tokens, which it explains.
    """
    for severity, span_s, share, fewest in (
        ("page", 120, REFUSED_MOST, FEWEST_REFUSED_PAGE),
        ("ticket", 300, REFUSED_SHARE, FEWEST_REFUSED),
    ):
        span = seconds_text(span_s)
        refused = _rate(catalogue.REFUSED_TOTAL, ("reason",), span)
        counted = _rate(catalogue.REQUESTS_TOTAL, catalogue.REQUESTS_TOTAL.labels, span)
        percent = percent_text(Fraction(share))
        yield (page if severity == "page" else ticket)(
            "TokenpulseRecordsRefused",
            f"{refused} / ({refused} + ({counted} or 0 * {refused})) > {share}"
            f"\nand {refused} * {span_s} >= {fewest}",
            "{{ $value | humanizePercentage }} of the records are rejected",
            "They are on the dead-letter topic, with the reason in their headers. A producer "
            "breaks the event contract (docs/events.md), and its requests are not counted.",
            "{{ $value | humanizePercentage }} rejected",
            f"at most {percent}",
            60,
            KEEP_FIRING_S if severity == "page" else 0,
        )


def _empty_count_alert() -> Alert:
    """Return the alert on producers that send while no request is counted.

    All numbers of requests are empty then, as in a night without traffic. A producer that sends
    its last requests again in such a night is no fault, so duplicates must be many.
    """
    refused = _rate(catalogue.REFUSED_TOTAL, ("reason",))
    duplicates = _rate(catalogue.DUPLICATES_TOTAL, ())
    counted, just_counted, probes, just_probed = (
        _rate(spec, spec.labels, span)
        for spec in (catalogue.REQUESTS_TOTAL, catalogue.PROBES_TOTAL)
        for span in ("5m", "2m")
    )
    hour = {"scope": any_of(("fleet",)), "window": any_of(("1h",))}
    lately = total_of(newest(catalogue.WINDOW_REQUESTS, hour, ("outcome",)))
    # With less traffic two minutes without a request may be chance, and five must be empty.
    busy = f"{lately} >= {number(BUSY_MIN_REQUESTS * 30)}"
    day = {"scope": any_of(("fleet",)), "window": any_of((_DAY,))}
    usual = total_of(newest(catalogue.WINDOW_REQUESTS, day, ("outcome",)))
    # 300 s of 86,400 s.
    # Old records that are replayed at night are many, but few beside a usual day.
    many = f"{duplicates} * 300 >= {number(DUPLICATES_OF_USUAL / 288)} * {usual}"
    alert = page(
        "TokenpulseNothingCounted",
        f"(({refused} + {duplicates}) * 300 and {refused} * 300 >= {FEWEST_REFUSED}"
        f"\nor {duplicates} * 300 >= {FEWEST_DUPLICATES} and {many})"
        f"\nunless {on()} ({just_counted} > 0 or {just_probed} > 0)"
        f"\nunless {on()} (({counted} > 0 or {probes} > 0) unless {busy})",
        "Records arrive, but none of them is counted",
        "Over the last 5m {{ $value | humanize }} records were rejected or were duplicates, and "
        "over the last 2m no other record arrived. Numbers of requests fall as if there were no "
        "traffic.",
        "{{ $value | humanize }} records, none counted",
        "at least one of them counted",
        30,
        KEEP_FIRING_S,
    )
    return replace(alert, reads=(Read("fleet", "1h"), Read("fleet", _DAY)))


def _increase(spec: Spec, span: str, label: str, over: int = 0) -> str:
    by = (*INSTALLATION, label)
    return f"{aggregate('max', f'increase({spec.name}[{span}])', by)} > {over}"
