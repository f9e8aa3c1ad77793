"""Rules about Tokenpulse's own health, which need no policy.

Pure. Stale data must page before an operator trusts it or takes a silent alert for health:
`TokenpulseDataStale` pages, and silences all alerts that are derived from the state.
"""

from collections.abc import Iterator
from functools import partial

from alerts.promql import newest, string_literal
from alerts.rules.model import Alert, Group
from exporters.catalogue import pipeline as catalogue_health
from exporters.catalogue import requests as catalogue
from exporters.catalogue.spec import Spec
from slo.health_limits import (
    ARCHIVE_STALE_AFTER_INTERVALS,
    BEHIND_AFTER_S,
    FEWEST_REFUSED,
    MANY_WAITING,
    REFUSED_SHARE,
    STALE_AFTER_S,
)
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

_PARTITION = ("partition",)
_WHICH = "partition {{ $labels.partition }}"


def pipeline_groups(job: str) -> tuple[Group, ...]:
    """Return the groups of all such rules; `job`: the scrape job of the exporters."""
    return (
        Group("tokenpulse-watchdog", (_watchdog(),)),
        Group("tokenpulse-freshness", (*_stale(), *_exporters(job))),
        Group("tokenpulse-state", (*_state(), *_counter_alerts())),
        Group("tokenpulse-flow", (_lag(), _rejection_alert())),
    )


def _watchdog() -> Alert:
    return Alert(
        name="TokenpulseWatchdog",
        severity="none",
        expr="vector(1)",
        summary="Alerting works",
        description="Always firing. An external receiver raises the alarm when this alert stops "
        "arriving: then Prometheus or Alertmanager is down, or cannot send.",
        value="1",
        target="always firing",
    )


def _stale() -> Iterator[Alert]:
    pulse = newest(catalogue_health.PARTITION_PULSE, by=_PARTITION)
    broker = newest(catalogue_health.PARTITION_BROKER, by=_PARTITION)
    lag = newest(catalogue_health.PARTITION_LAG, by=_PARTITION)
    written = newest(catalogue_health.PARTITION_CHECKPOINT, by=_PARTITION)
    halted = newest(catalogue_health.PARTITION_HALTED, by=_PARTITION)
    fresh = newest(catalogue_health.PARTITION_FRESHNESS, by=_PARTITION)
    readable = newest(catalogue_health.STATE_READABLE, by=())
    refreshed = newest(catalogue_health.EXPORTER_REFRESHED, by=())
    age = "{{ $value | humanizeDuration }}"
    common = "Every number and every alert about requests may be out of date or missing."
    yield _page(
        "TokenpulseDataStale",
        f"{readable} == 0",
        "No exporter can read the state",
        f"No exporter can read the state from Redis, so all windows and totals are gone. {common}",
        "unreadable",
        "readable",
        15,
        cause="state",
    )
    yield _page(
        "TokenpulseDataStale",
        f"time() - {refreshed} > {STALE_AFTER_S}",
        f"The exporters show numbers that are {age} old",
        f"The state was last read {age} ago; every second is usual. {common}",
        f"read {age} ago",
        f"at most {STALE_AFTER_S}s",
        0,
        cause="exporter",
    )
    yield _page(
        "TokenpulseDataStale",
        f"time() - {pulse} > {STALE_AFTER_S}",
        f"No worker counts {_WHICH}",
        f"The worker that owns {_WHICH} sent its last heartbeat {age} ago. {common}",
        f"no heartbeat for {age}",
        f"at most {STALE_AFTER_S}s",
        0,
        cause="worker",
    )
    # The heartbeat of a dead worker has an old answer too: its own cause says more.
    yield _page(
        "TokenpulseDataStale",
        f"time() - {broker} > {BROKER_SILENT_AFTER_S}\nand time() - {pulse} <= {STALE_AFTER_S}",
        f"Kafka does not answer the worker of {_WHICH}",
        f"The worker that owns {_WHICH} had its last answer from Kafka {age} ago, so new records "
        f"are neither read nor known. {common}",
        f"no answer for {age}",
        f"at most {BROKER_SILENT_AFTER_S}s",
        0,
        cause="broker",
    )
    yield _page(
        "TokenpulseDataStale",
        f"time() - {written} > {BEHIND_AFTER_S}\nand {lag} > 0\nunless {halted} == 1",
        f"Records wait, but {_WHICH} is not written",
        f"{_WHICH.capitalize()} was last written {age} ago though records wait in Kafka. {common}",
        f"written {age} ago",
        f"at most {BEHIND_AFTER_S}s while records wait",
        0,
        cause="checkpoint",
    )
    # Freshness does not grow in silence, so it counts only while something is written.
    yield _page(
        "TokenpulseDataStale",
        f"{fresh} > {BEHIND_AFTER_S}\nand time() - {written} <= {BEHIND_AFTER_S}",
        f"{_WHICH.capitalize()} is {age} behind",
        f"The newest event of {_WHICH} was {age} old when it was exported. {common}",
        f"{age} behind",
        f"at most {BEHIND_AFTER_S}s",
        15,
        cause="behind",
    )


def _exporters(job: str) -> Iterator[Alert]:
    up = f"up{{job={string_literal(job)}}}"
    yield _page(
        "TokenpulseExporterDown",
        f"(sum({up}) or vector(0)) == 0",
        "No exporter answers",
        "Prometheus reaches no exporter, or the page exceeds a limit of the scrape. No metric is "
        "available, and no other alert about requests can fire.",
        "{{ $value }} answer",
        "at least 1",
        15,
    )
    yield _ticket(
        "TokenpulseExporterDown",
        f"count({up} == 0)\nand sum({up}) > 0",
        "{{ $value }} exporters do not answer",
        "At least one exporter answers, so no metric is missing yet.",
        "{{ $value }} down",
        "none",
        300,
    )
    offset = catalogue_health.PARTITION_OFFSET.name
    least, most = f"min by (partition) ({offset})", f"max by (partition) ({offset})"
    before = f"max by (partition) ({offset} offset 2m)"
    yield _ticket(
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
    yield _page(
        "TokenpulsePartitionHalted",
        f"{halted} == 1",
        f"{_WHICH.capitalize()} is halted: {{{{ $labels.reason }}}}",
        f"A worker stopped counting {_WHICH} until an operator decides: {{{{ $labels.reason }}}}. "
        "`tokenpulse partitions list` shows where and why.",
        "halted",
        "counted",
        10,
    )
    yield _ticket(
        "TokenpulseWindowIncomplete",
        f"{complete} == 0",
        "The window {{ $labels.window }} covers only part of the traffic",
        "Records of the window {{ $labels.window }} are missing, so its numbers do not cover all "
        "traffic.",
        "incomplete",
        "complete",
        60,
    )
    yield _ticket(
        "TokenpulseArchiveOld",
        f"time() - {archived} > {ARCHIVE_STALE_AFTER_INTERVALS} * scalar({interval})",
        f"The archive of {_WHICH} is {age} old",
        "If Redis lost its data now, counts older than Kafka's retention would be restored from "
        f"an archive that is {age} old.",
        f"{age} old",
        f"at most {ARCHIVE_STALE_AFTER_INTERVALS} times worker.archive_interval_s",
        60,
    )


def _counter_alerts() -> Iterator[Alert]:
    """Yield the alerts on counters of which every increase matters."""
    yield _page(
        "TokenpulseRecordsLost",
        _increase(catalogue_health.LOST_RECORDS, "15m", "partition"),
        f"{{{{ $value | humanize }}}} records of {_WHICH} were lost",
        "Kafka deleted them before they were counted, or an operator skipped them. Windows that "
        "contain them are incomplete.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield _page(
        "TokenpulseStateLost",
        _increase(catalogue_health.STATE_LOSSES, "15m", "partition"),
        f"Redis lost the state of {_WHICH}",
        "The worker rebuilds it from the archive and Kafka. Records that neither contains are "
        "missing; tokenpulse_window_complete is 0 for the windows concerned.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStateRolledBack",
        _increase(catalogue_health.STATE_ROLLBACKS, "15m", "worker"),
        "Redis lost the latest writes of a worker",
        "Worker {{ $labels.worker }} found an older state than it had written: a failover lost "
        "the latest writes. The worker reads the records again, so no record is lost.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStateConflict",
        _increase(catalogue_health.WORKER_CONFLICTS, "15m", "worker"),
        "The state was changed under a running worker",
        "A checkpoint of worker {{ $labels.worker }} was rejected, as the stored offset was not "
        "the expected one: another process writes this state, or an operator restored it.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStoreErrors",
        _increase(catalogue_health.WORKER_STORE_ERRORS, "5m", "worker", over=10),
        "Writes to Redis fail",
        "Worker {{ $labels.worker }} retries each write, so no record is lost; but Redis is slow, "
        "full or unreachable.",
        "{{ $value | humanize }} in 5m",
        "at most 10 in 5m",
    )
    yield _ticket(
        "TokenpulseDuplicateWindowForgotten",
        _increase(catalogue_health.DUPLICATE_WINDOW_FORGOTTEN, "15m", "partition"),
        f"{_WHICH.capitalize()} forgets request ids too early",
        "There was no room for {{ $value | humanize }} request ids: duplicates of these requests "
        "would count twice. Raise worker.dedup_max_ids.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield _ticket(
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
    return _ticket(
        "TokenpulseLagGrowing",
        f"max by (partition) ({lag}) > {MANY_WAITING}"
        f"\nand max by (partition) (deriv({lag}[10m])) > 0",
        f"{{{{ $value | humanize }}}} records of {_WHICH} wait, and the number grows",
        "More records arrive than are counted: add workers, or find the bottleneck.",
        "{{ $value | humanize }} records wait",
        f"at most {MANY_WAITING}, or falling",
        300,
    )


def _rejection_alert() -> Alert:
    """Return the alert on the share of rejected records.

    A share, so that a burst after an outage does not fire; nor does one broken record.
    """
    refused = f"sum(max by (reason) (rate({catalogue.REFUSED_TOTAL.name}[5m])))"
    labels = ", ".join(catalogue.REQUESTS_TOTAL.labels)
    counted = f"sum(max by ({labels}) (rate({catalogue.REQUESTS_TOTAL.name}[5m])))"
    return _ticket(
        "TokenpulseRecordsRefused",
        f"{refused} / ({refused} + ({counted} or vector(0))) > {REFUSED_SHARE}"
        f"\nand {refused} * 300 >= {FEWEST_REFUSED}",
        "{{ $value | humanizePercentage }} of the records are rejected",
        "They are on the dead-letter topic, with the reason in their headers. A producer breaks "
        "the event contract (docs/events.md), and its requests are not counted.",
        "{{ $value | humanizePercentage }} rejected",
        "at most 1%",
        60,
    )


def _increase(spec: Spec, span: str, label: str, over: int = 0) -> str:
    return f"max by ({label}) (increase({spec.name}[{span}])) > {over}"


def _alert(
    severity: str,
    name: str,
    expr: str,
    summary: str,
    description: str,
    value: str,
    target: str,
    for_s: int = 0,
    **labels: str,
) -> Alert:
    routed = {"route": "sre", **labels}
    return Alert(name, severity, expr, summary, description, value, target, for_s, labels=routed)


_page, _ticket = partial(_alert, "page"), partial(_alert, "ticket")
