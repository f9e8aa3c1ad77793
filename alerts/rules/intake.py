"""Rules about the intake: whether it runs, and whether Kafka takes its events.

Pure. They read the scrape of the intake's own page, as the exporter sees delivered events only.
The scrape job of the intake is another one than the exporters'. So rules that compare both do so
by `cluster`, and only if all exporters of the cluster are of one job: else it may be the intake of
another Tokenpulse.
"""

from collections.abc import Iterator
from dataclasses import replace

from alerts.promql import INSTALLATION, aggregate, any_of, newest, number, sum_of, total_of
from alerts.rules.model import KEEP_FIRING_S, Alert, Group, Read, page, silent, ticket
from exporters.catalogue import pipeline as catalogue_health
from exporters.catalogue import requests as catalogue
from exporters.catalogue import sources as catalogue_sources
from slo.health_limits import (
    INTAKE_FEWEST_UNAVAILABLE,
    INTAKE_FEWEST_UNAVAILABLE_TICKET,
    INTAKE_MOST,
    INTAKE_UNAVAILABLE_SHARE,
)
from slo.policy.units import percent_text
from streams.intake.metrics import (
    ANSWERS_TOTAL,
    EVENTS_TOTAL,
    UNDELIVERED_TOTAL,
    WAITING_FOR_SCHEMA,
)
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

INTAKE_JOBS = "tokenpulse-intake.*"  # regular expression of the scrape jobs
_UP = f'up{{job=~"{INTAKE_JOBS}"}}'
_UNAVAILABLE = f'{ANSWERS_TOTAL}{{code="503"}}'
_CLUSTER = ("cluster",)
_DAY = "24h"
# A sender sends again for longer than an intake takes to restart.
_DOWN_FOR_S = 60
# Volumes are judged again once the senders have sent again what they kept.
_KEEP_EXPLAINED_S = 60


def intake_group() -> Group:
    """Return the group of all such rules."""
    return Group("tokenpulse-intake", (*_alerts(), _missing_volume(), _silent_sources()))


def _alerts() -> Iterator[Alert]:
    yield page(
        "TokenpulseIntakeDown",
        f"{total_of(_UP)} == 0",
        "No intake answers",
        "Prometheus reaches no intake, so senders cannot deliver their records, and source topics "
        "are not read. Records that a sender does not keep until then are lost.",
        "{{ $value }} answer",
        "at least 1",
        _DOWN_FOR_S,
        cause="down",
    )
    yield ticket(
        "TokenpulseIntakeDown",
        f"count by ({', '.join(INSTALLATION)}) ({_UP} == 0)\nand {total_of(_UP)} > 0",
        "{{ $value }} intakes do not answer",
        "At least one intake answers, so senders behind a load balancer are served.",
        "{{ $value }} down",
        "none",
        300,
        cause="some",
    )
    # Kafka's own outage pages as DataStale of `broker`, once for all that use it.
    yield page(
        "TokenpulseIntakeDown",
        f"{_stuck(INSTALLATION)}\nunless on (cluster) ({_brokers_are_silent()})",
        "Kafka confirms no event of the intake",
        "In 2m the intake could not deliver the events of {{ $value | humanize }} requests, and in "
        "the last minute Kafka confirmed none. It answered them with 503. Senders must send the "
        "records again; those that they drop are lost.",
        "{{ $value | humanize }} requests in 2m",
        "none without a confirmed event",
        30,
        cause="delivery",
    )
    unavailable, answers = (
        total_of(f"rate({metric}[5m])") for metric in (_UNAVAILABLE, ANSWERS_TOTAL)
    )
    yield ticket(
        "TokenpulseIntakeDown",
        f"{unavailable} / {answers} > {number(INTAKE_UNAVAILABLE_SHARE)}"
        f"\nand {unavailable} * 300 >= {INTAKE_FEWEST_UNAVAILABLE_TICKET}",
        "{{ $value | humanizePercentage }} of the intake's answers are 503",
        "Kafka confirms events late, more bytes wait for it than intake.max_in_flight_bytes "
        "allows, or bodies of requests arrive too slowly. Senders send the records again.",
        "{{ $value | humanizePercentage }} answered with 503",
        f"at most {percent_text(INTAKE_UNAVAILABLE_SHARE)}",
        600,
        cause="unavailable",
    )
    yield ticket(
        "TokenpulseIntakeDown",
        f"{aggregate('max', WAITING_FOR_SCHEMA, (*INSTALLATION, 'source'))} == 1",
        "Source {{ $labels.source }} waits for the schema of its records",
        "The schema registry does not answer, or does not have the schema. The records wait in "
        "Kafka, and none of them is counted.",
        "waiting",
        "not waiting",
        300,
        KEEP_FIRING_S,
        cause="schema",
    )


def _stuck(by: tuple[str, ...]) -> str:
    """Return PromQL for intakes with requests that were not delivered, and no delivered event."""
    undelivered = sum_of(f"increase({UNDELIVERED_TOTAL}[2m])", by)
    confirmed = sum_of(f"increase({EVENTS_TOTAL}[1m])", by)
    return (
        f"{undelivered} >= {INTAKE_FEWEST_UNAVAILABLE}"
        f"\nunless on ({', '.join(by)}) ({confirmed} > 0)"
    )


def _brokers_are_silent() -> str:
    """Return PromQL for clusters in which Kafka answers the worker of no partition."""
    pulse, broker = (
        newest(spec, by=("partition",))
        for spec in (catalogue_health.PARTITION_PULSE, catalogue_health.PARTITION_BROKER)
    )
    return f"{aggregate('min', f'{pulse} - {broker}', _CLUSTER)} > {BROKER_SILENT_AFTER_S}"


def _without_intake() -> str:
    """Return the clause that keeps exporters whose intakes are down, or deliver no event."""
    jobs = aggregate("count", catalogue_health.EXPORTER_REFRESHED.name, INSTALLATION)
    return (
        f"and on (cluster) ({sum_of(_UP, _CLUSTER)} == 0 or ({_stuck(_CLUSTER)}))"
        f"\nand on (cluster) ({aggregate('count', jobs, _CLUSTER)} == 1)"
    )


def _missing_volume() -> Alert:
    """Return the alert that holds while the intake explains the missing traffic.

    It goes to no person; while it fires, Alertmanager sends no page about missing traffic.
    """
    day = any_of((_DAY,))
    sent = total_of(newest(catalogue_sources.SOURCE_EVENTS, {"window": day}, ("source",)))
    fleet = {"scope": any_of(("fleet",)), "window": day}
    every = total_of(newest(catalogue.WINDOW_REQUESTS, fleet, ("outcome",)))
    alert = silent(
        "TokenpulseOutageExplains",
        f"{sent} / {every} >= {number(INTAKE_MOST)}\n{_without_intake()}",
        "The intake explains the low token volume",
        "Sent to no person. While it fires, Alertmanager sends no page about missing traffic.",
        "{{ $value | humanizePercentage }} of a day's requests came by the intake",
        "silent while an intake delivers",
        0,
        _KEEP_EXPLAINED_S,
        explains="intake",
    )
    return replace(alert, reads=(Read("fleet", _DAY),))


def _silent_sources() -> Alert:
    """Return the alert that holds while the intake explains that its sources are silent."""
    jobs = aggregate("count", catalogue_health.EXPORTER_REFRESHED.name, INSTALLATION)
    return silent(
        "TokenpulseOutageExplains",
        f"{jobs}\n{_without_intake()}",
        "The intake explains that its sources are silent",
        "Sent to no person. While it fires, Alertmanager sends no ticket about silent sources.",
        "{{ $value }}",
        "silent while an intake delivers",
        0,
        2 * KEEP_FIRING_S,
        explains="sources",
    )
