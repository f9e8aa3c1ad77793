"""Rules about Tokenpulse's own health, which need no policy.

Pure. Those on stale data are in `freshness`, those on memory in `memory`.
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
from alerts.rules.freshness import freshness_alerts
from alerts.rules.memory import memory_alerts
from alerts.rules.model import KEEP_FIRING_S, Alert, Group, Read, page, ticket
from alerts.rules.sources import source_alerts
from exporters.catalogue import pipeline as catalogue_health
from exporters.catalogue import requests as catalogue
from exporters.catalogue.spec import Spec
from slo.health_limits import (
    ARCHIVE_STALE_AFTER_INTERVALS,
    BUSY_MIN_REQUESTS,
    DUPLICATES_OF_USUAL,
    FEWEST_DUPLICATES,
    FEWEST_REFUSED,
    FEWEST_REFUSED_PAGE,
    MANY_WAITING,
    REFUSED_MOST,
    REFUSED_SHARE,
)
from slo.policy.units import percent_text

_DAY = "24h"
_PARTITION = ("partition",)
_WHICH = "partition {{ $labels.partition }}"


def pipeline_groups() -> tuple[Group, ...]:
    """Return the groups of all such rules."""
    return (
        Group("tokenpulse-freshness", tuple(freshness_alerts())),
        Group("tokenpulse-state", (*_state(), *_counter_alerts())),
        Group("tokenpulse-flow", (_lag(), *_rejection_alerts(), _empty_count_alert())),
        Group("tokenpulse-memory", tuple(memory_alerts())),
        Group("tokenpulse-sources", tuple(source_alerts())),
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
    yield from _clock_alerts()


def _clock_alerts() -> Iterator[Alert]:
    """Yield the alerts on clocks: one that differs from that of Redis, and one not proven."""
    by, process = (*INSTALLATION, "process"), "{{ $labels.process }}"
    limit = newest(catalogue_health.CLOCK_OFFSET_LIMIT)
    offset = aggregate("max", f"abs({catalogue_health.CLOCK_OFFSET.name})", by)
    is_off = f"{offset} > {on()} group_left () {limit}"
    waits = "Until they agree, no period and no day that needs this process is finalised."
    age = "{{ $value | humanizeDuration }}"
    yield ticket(
        "TokenpulseClockOff",
        is_off,
        f"The clock of {process} is {age} off",
        f"The clock of {process} differs by {age} from that of Redis. {waits}",
        f"{age} off",
        "at most redis.max_clock_offset_s",
        60,
        cause="offset",
    )
    # Of two exporters with one name, one that cannot compare its clock is enough.
    agrees = aggregate("min", catalogue_health.CLOCK_AGREES.name, by)
    yield ticket(
        "TokenpulseClockOff",
        f"{agrees} == 0\nunless {on('process')} ({is_off})",
        f"The clock of {process} is not proven to agree with that of Redis",
        "Redis does not give its time (its user has no right to TIME), or gives it too slowly to "
        f"prove that the clock of {process} is within redis.max_clock_offset_s of it. {waits}",
        "not proven",
        "at most redis.max_clock_offset_s off",
        60,
        cause="unchecked",
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
        counted = _rate(catalogue.COUNTED_TOTAL, (), span)
        percent = percent_text(Fraction(share))
        yield (page if severity == "page" else ticket)(
            "TokenpulseRecordsRefused",
            f"{refused} / ({refused} + {counted}) > {share}\nand {refused} * {span_s} >= {fewest}",
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
    counted, just_counted = (_rate(catalogue.COUNTED_TOTAL, (), span) for span in ("5m", "2m"))
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
        f"\nand {just_counted} == 0"
        f"\nunless ({counted} > 0 unless {busy})",
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
