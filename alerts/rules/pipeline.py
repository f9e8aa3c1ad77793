"""Rules that need no policy: most requests fail right now, and Tokenpulse's own health.

Pure. A number that is stale, partial or gone must be told as such before anyone trusts it or takes
its silence for health: `TokenpulseDataStale` pages itself and silences what is derived from it.
"""

from collections.abc import Iterator
from functools import partial

from alerts.promql import any_of, newest, quoted
from alerts.rules.model import KEEP_FIRING_S, Alert, Group, Read, dashboard
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
from slo.policy.conditions import OUTAGE_BELOW, OUTAGE_MIN_REQUESTS
from slo.policy.scope import DIMENSIONS

OUTAGE_GROUP = "tokenpulse-outage"  # the one built-in group about requests
OUTAGE_SCOPES = ("fleet", "region", "model")
_PARTITION = ("partition",)
_WHICH = "partition {{ $labels.partition }}"


def builtin_groups(job: str) -> tuple[Group, ...]:
    """`job`: the scrape job of the exporters."""
    return (
        Group(OUTAGE_GROUP, (_outage(),)),
        Group("tokenpulse-watchdog", (_watchdog(),)),
        Group("tokenpulse-freshness", (*_stale(), *_exporters(job))),
        Group("tokenpulse-state", (*_state(), *_rose())),
        Group("tokenpulse-flow", (_lag(), _refused())),
    )


def _outage() -> Alert:
    """Budgets burn over an hour; this is the alert that is there within the minute."""
    matchers = {"scope": any_of(OUTAGE_SCOPES), "window": any_of(("1m",))}
    by = ("scope", *DIMENSIONS)
    ratio = newest(catalogue.AVAILABILITY_RATIO, matchers, by)
    enough = newest(catalogue.WINDOW_ELIGIBLE_REQUESTS, matchers, by)
    where = (
        "{{ with $labels.region }} in region {{ . }}{{ end }}"
        "{{ with $labels.model }} of model {{ . }}{{ end }}"
    )
    value = "{{ $value | humanizePercentage }}"
    return Alert(
        name="TokenpulseOutage",
        severity="page",
        expr=f"{ratio} < {OUTAGE_BELOW}\nand {enough} >= {OUTAGE_MIN_REQUESTS}",
        summary=f"Most requests{where} fail: {value} succeed",
        description=f"Over the last minute {value} of the requests{where} that count for "
        "availability succeeded, fewer than half.",
        value=f"{value} succeed",
        target="at least 50% at any time",
        for_s=10,
        keep_firing_s=KEEP_FIRING_S,
        labels={"derived_from": "state", "route": "sre"},
        link=dashboard("live", "model", "region"),
        reads=tuple(Read(scope, "1m") for scope in OUTAGE_SCOPES),
    )


def _watchdog() -> Alert:
    return Alert(
        name="TokenpulseWatchdog",
        severity="none",
        expr="vector(1)",
        summary="Alerting works",
        description="Always firing. The receiver outside raises the alarm when it stops coming: "
        "then Prometheus or Alertmanager is down, or cannot reach out.",
        value="1",
        target="always firing",
    )


def _stale() -> Iterator[Alert]:
    pulse = newest(catalogue_health.PARTITION_PULSE, by=_PARTITION)
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
        f"The worker that owns {_WHICH} gave its last sign of life {age} ago. {common}",
        f"no sign of life for {age}",
        f"at most {STALE_AFTER_S}s",
        0,
        cause="worker",
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
    up = f"up{{job={quoted(job)}}}"
    yield _page(
        "TokenpulseExporterDown",
        f"(sum({up}) or vector(0)) == 0",
        "No exporter answers",
        "Prometheus reaches no exporter, or its page is over a limit of the scrape: no number is "
        "known, and no other alert about requests can fire.",
        "{{ $value }} answer",
        "at least 1",
        15,
    )
    yield _ticket(
        "TokenpulseExporterDown",
        f"count({up} == 0)\nand sum({up}) > 0",
        "{{ $value }} exporters do not answer",
        "Others still do, so nothing is missing yet.",
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
        "reads another Redis or a replica that is behind, or it stands still.",
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
        f"A worker refuses to count {_WHICH} until a person has looked: {{{{ $labels.reason }}}}. "
        "`tokenpulse partitions list` says where and why.",
        "halted",
        "counted",
        10,
    )
    yield _ticket(
        "TokenpulseWindowIncomplete",
        f"{complete} == 0",
        "The window {{ $labels.window }} is of a part of the traffic only",
        "Records of the window {{ $labels.window }} are known to be missing: its numbers are not "
        "of all traffic.",
        "incomplete",
        "complete",
        60,
    )
    yield _ticket(
        "TokenpulseArchiveOld",
        f"time() - {archived} > {ARCHIVE_STALE_AFTER_INTERVALS} * scalar({interval})",
        f"The archive of {_WHICH} is {age} old",
        "If Redis lost its data now, what is older than Kafka's retention would be restored from "
        f"an archive that is {age} old.",
        f"{age} old",
        f"at most {ARCHIVE_STALE_AFTER_INTERVALS} times worker.archive_interval_s",
        60,
    )


def _rose() -> Iterator[Alert]:
    """Counters of which every rise is worth telling."""
    yield _page(
        "TokenpulseRecordsLost",
        _increase(catalogue_health.LOST_RECORDS, "15m", "partition"),
        f"{{{{ $value | humanize }}}} records of {_WHICH} were lost",
        "They were gone from Kafka before they were counted, or an operator skipped them. Windows "
        "that hold them are not complete.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield _page(
        "TokenpulseStateLost",
        _increase(catalogue_health.STATE_LOSSES, "15m", "partition"),
        f"The state of {_WHICH} was gone from Redis",
        "It is built again from the archive and Kafka. What neither holds is missing; "
        "tokenpulse_window_complete says in which windows.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStateRolledBack",
        _increase(catalogue_health.STATE_ROLLBACKS, "15m", "worker"),
        "Redis was set back behind what a worker had written",
        "Worker {{ $labels.worker }} found an older state than it had written: a failover lost "
        "the latest writes. The records are read again, so nothing is lost.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStateConflict",
        _increase(catalogue_health.WORKER_CONFLICTS, "15m", "worker"),
        "The state was changed under a running worker",
        "A checkpoint of worker {{ $labels.worker }} was refused, as the stored offset was not "
        "the one it expected: somebody else writes this state, or restored it.",
        "{{ $value | humanize }} times in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseStoreErrors",
        _increase(catalogue_health.WORKER_STORE_ERRORS, "5m", "worker", over=10),
        "Writes to Redis fail",
        "Worker {{ $labels.worker }} tries each again, so nothing is lost; but Redis is slow, "
        "full or away.",
        "{{ $value | humanize }} in 5m",
        "at most 10 in 5m",
    )
    yield _ticket(
        "TokenpulseDuplicateWindowForgotten",
        _increase(catalogue_health.DUPLICATE_WINDOW_FORGOTTEN, "15m", "partition"),
        f"{_WHICH.capitalize()} forgets request ids too early",
        "There was no room for {{ $value | humanize }} request ids: duplicates of these would "
        "count twice. Raise worker.dedup_max_ids.",
        "{{ $value | humanize }} in 15m",
        "none",
    )
    yield _ticket(
        "TokenpulseLabelsFolded",
        _increase(catalogue.FOLDED_TOTAL, "15m", "dimension"),
        "Too many different values of {{ $labels.dimension }}",
        "{{ $value | humanize }} events were counted under __other__ instead of their own "
        "{{ $labels.dimension }}: raise worker.limits, or find who invents names.",
        "{{ $value | humanize }} events in 15m",
        "none",
    )


def _lag() -> Alert:
    lag = catalogue_health.PARTITION_LAG.name
    return _ticket(
        "TokenpulseLagGrowing",
        f"max by (partition) ({lag}) > {MANY_WAITING}"
        f"\nand max by (partition) (deriv({lag}[10m])) > 0",
        f"{{{{ $value | humanize }}}} records of {_WHICH} wait, and more and more",
        "More records come than are counted: add workers, or find what slows them down.",
        "{{ $value | humanize }} records wait",
        f"at most {MANY_WAITING}, or falling",
        300,
    )


def _refused() -> Alert:
    """A share, so that a burst after an outage is no alarm; one broken record is none either."""
    refused = f"sum(max by (reason) (rate({catalogue.REFUSED_TOTAL.name}[5m])))"
    labels = ", ".join(catalogue.REQUESTS_TOTAL.labels)
    counted = f"sum(max by ({labels}) (rate({catalogue.REQUESTS_TOTAL.name}[5m])))"
    return _ticket(
        "TokenpulseRecordsRefused",
        f"{refused} / ({refused} + ({counted} or vector(0))) > {REFUSED_SHARE}"
        f"\nand {refused} * 300 >= {FEWEST_REFUSED}",
        "{{ $value | humanizePercentage }} of the records are refused",
        "They are on the dead-letter topic, with the reason in their headers: a producer breaks "
        "the event contract (docs/events.md), and its requests count nowhere.",
        "{{ $value | humanizePercentage }} refused",
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
