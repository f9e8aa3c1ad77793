"""Rules about the monitoring itself: scrapes, rules, delivery, and the dead man's switch.

Pure. They read what Prometheus records of each scrape, which exists also if the exporter's page is
refused, and the metrics of Prometheus and Alertmanager (scrape jobs of deploy/prometheus).
"""

from collections.abc import Iterator

from alerts.promql import INSTALLATION, aggregate, number, on, string_literal, total_of
from alerts.rules.model import Alert, Group, page, ticket
from exporters.catalogue import pipeline as catalogue
from slo.health_limits import (
    DELIVERY_FAILED_SHARE,
    DELIVERY_MANY_FAILED,
    SAMPLE_LIMIT,
    SCRAPE_NEAR_LIMIT,
    SCRAPE_TIMEOUT_S,
)

WATCHDOG = "TokenpulseWatchdog"  # always fires

# Rules of other teams in the same Prometheus are no concern of ours.
_OURS = 'rule_group=~".*;tokenpulse-.*"'
_BODY_REFUSED = "prometheus_target_scrapes_exceeded_body_size_limit_total"
_PER_TARGET = (*INSTALLATION, "instance")
_DELIVERY_SPAN = "15m"


def monitoring_groups(job: str) -> tuple[Group, ...]:
    """Return the groups of all such rules; `job`: regular expression of the exporters' jobs."""
    return (
        Group("tokenpulse-watchdog", (_watchdog(),)),
        Group("tokenpulse-scrapes", (*_exporters(job), *_scrapes(job))),
        Group("tokenpulse-alerting", tuple(_alerting())),
    )


def _watchdog() -> Alert:
    return Alert(
        name=WATCHDOG,
        severity="none",
        # Without any metric of ours: it must fire also while no exporter answers.
        expr="vector(1)",
        summary="Alerting works",
        description="Always firing. An external receiver raises the alarm when this alert stops "
        "arriving: then Prometheus or Alertmanager is down, or cannot send.",
        value="1",
        target="always firing",
    )


def _exporters(job: str) -> Iterator[Alert]:
    up = f"up{{job=~{string_literal(job)}}}"
    # Only a scrape in the last five minutes leaves this series: without it no exporter answered.
    seen = aggregate("count", catalogue.EXPORTER_REFRESHED.name, INSTALLATION)
    yield page(
        "TokenpulseExporterDown",
        f"{total_of(up)} == 0\nunless {on()} {seen}",
        "No exporter answers",
        "Prometheus reaches no exporter, or rejects its page. No metric is available, and no "
        "other alert about requests can fire.",
        "{{ $value }} answer",
        "at least 1",
        15,
        cause="down",
    )
    yield page(
        "TokenpulseExporterDown",
        # `absent` has no labels to join by, so it can tell no installation from another.
        f"absent({up})\nand on () absent({catalogue.EXPORTER_REFRESHED.name})",
        "Prometheus has no exporter to scrape",
        f"No scrape job matches {job}, and no exporter is scraped by another job. No alert about "
        "requests can fire.",
        "no target",
        "at least 1",
        15,
        cause="no_target",
    )
    yield ticket(
        "TokenpulseExporterDown",
        f"count by ({', '.join(INSTALLATION)}) ({up} == 0)\nand {total_of(up)} > 0",
        "{{ $value }} exporters do not answer",
        "At least one exporter answers, so no metric is missing yet.",
        "{{ $value }} down",
        "none",
        300,
        cause="some",
    )
    yield ticket(
        "TokenpulseExporterDown",
        f"{seen}\nunless {on()} {total_of(up)}",
        "The rules watch no exporter of job {{ $labels.job }}",
        f"The exporters of job {{{{ $labels.job }}}} are scraped, but the rules expect a job that "
        f"matches {job}: if they stopped, no alert would fire. Compile the rules with `--job`.",
        "{{ $value }} exporters",
        f"a job that matches {job}",
        300,
        cause="job_name",
    )


def _scrapes(job: str) -> Iterator[Alert]:
    """Yield the alerts on scrapes that exceed a limit of the scrape job, or soon will."""
    up, samples, duration = (
        f"{metric}{{job=~{string_literal(job)}}}"
        for metric in ("up", "scrape_samples_scraped", "scrape_duration_seconds")
    )
    # Prometheus notes the samples of a page that it then drops; of no answer it notes 0.
    yield page(
        "TokenpulseScrapeLimit",
        f"{aggregate('max', samples, _PER_TARGET)} > 0"
        f"\nand {aggregate('max', up, _PER_TARGET)} == 0",
        "Prometheus rejects the page of {{ $labels.instance }}",
        "The exporter answers, but its page of {{ $value }} samples exceeds a limit of the scrape "
        "job, so Prometheus drops all of it.",
        "{{ $value }} samples, rejected",
        f"at most sample_limit, {SAMPLE_LIMIT}",
        15,
        cause="samples",
    )
    yield page(
        "TokenpulseScrapeLimit",
        f"count by ({', '.join(INSTALLATION)}) ({up} == 0)"
        f"\nand on () sum(increase({_BODY_REFUSED}[5m])) > 0"
        # The counter is that of all jobs: with a target of another job down, it may be theirs.
        f"\nunless on () count(min_over_time(up{{job!~{string_literal(job)}}}[5m]) == 0) > 0",
        "Prometheus rejects the page of {{ $value }} exporters: it is too long",
        "A page exceeds body_size_limit of its scrape job, so Prometheus drops all of it.",
        "{{ $value }} exporters without a page",
        "none",
        15,
        cause="body",
    )
    yield ticket(
        "TokenpulseScrapeLimit",
        f"{aggregate('max', samples, _PER_TARGET)} > {number(SCRAPE_NEAR_LIMIT * SAMPLE_LIMIT)}",
        "The page of {{ $labels.instance }} is near the limit of its scrape",
        "The page has {{ $value }} samples. Above sample_limit Prometheus drops all of it.",
        "{{ $value }} samples",
        f"at most {number(SCRAPE_NEAR_LIMIT * SAMPLE_LIMIT)} of {SAMPLE_LIMIT}",
        300,
        cause="near_samples",
    )
    dropped = catalogue.EXPORTER_DROPPED.name
    yield ticket(
        "TokenpulseScrapeLimit",
        f"{aggregate('max', dropped, _PER_TARGET)} > 0",
        "The page of {{ $labels.instance }} leaves out the least used names",
        "{{ $value }} samples are left out, as the page would have more than exporter.max_samples. "
        "No alert is about the names they belong to.",
        "{{ $value }} samples",
        "none",
        60,
        cause="dropped",
    )
    yield ticket(
        "TokenpulseScrapeLimit",
        f"{aggregate('max', duration, _PER_TARGET)}"
        f" > {number(SCRAPE_NEAR_LIMIT * SCRAPE_TIMEOUT_S)}",
        "Scrapes of {{ $labels.instance }} take {{ $value | humanizeDuration }}",
        f"After {SCRAPE_TIMEOUT_S}s Prometheus gives up, and the page is missing.",
        "{{ $value | humanizeDuration }}",
        f"at most {float(SCRAPE_NEAR_LIMIT * SCRAPE_TIMEOUT_S):g}s of {SCRAPE_TIMEOUT_S}s",
        300,
        cause="near_timeout",
    )


def _alerting() -> Iterator[Alert]:
    """Yield the alerts on Prometheus and Alertmanager themselves."""
    failed, sent = (
        f"sum by (integration) (increase(alertmanager_notifications_{name}total[{_DELIVERY_SPAN}]))"
        for name in ("failed_", "")
    )
    yield page(
        "TokenpulseAlertingFails",
        f"sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total{{{_OURS}}}[5m]))"
        " > 0",
        "Prometheus cannot evaluate the rules of {{ $labels.rule_group }}",
        "{{ $value | humanize }} evaluations failed in 5m. Alerts of this group do not fire.",
        "{{ $value | humanize }} failures in 5m",
        "none",
        60,
        cause="evaluation",
    )
    # Alertmanager repeats a failed message with its group, so a single failure is mostly delivered.
    yield page(
        "TokenpulseAlertingFails",
        f"{failed} > {DELIVERY_MANY_FAILED}"
        f"\nand {failed} > {number(DELIVERY_FAILED_SHARE)} * {sent}",
        "Alertmanager cannot deliver to {{ $labels.integration }}",
        f"{{{{ $value | humanize }}}} messages failed in {_DELIVERY_SPAN}, most of those that were "
        "sent: a wrong key, or the receiver is down. This page comes by the receivers that still "
        "work.",
        f"{{{{ $value | humanize }}}} failures in {_DELIVERY_SPAN}",
        f"at most {DELIVERY_MANY_FAILED}, or half of the messages",
        60,
        cause="delivery",
    )
    yield ticket(
        "TokenpulseAlertingFails",
        f"{failed} > 0",
        "Some messages of Alertmanager to {{ $labels.integration }} fail",
        f"{{{{ $value | humanize }}}} messages failed in {_DELIVERY_SPAN}. Alertmanager sends them "
        "again with the next message of their group.",
        f"{{{{ $value | humanize }}}} failures in {_DELIVERY_SPAN}",
        "none",
        300,
        cause="delivery",
    )
    yield page(
        "TokenpulseAlertingFails",
        "sum by (instance) (increase(prometheus_notifications_dropped_total[5m])) > 0",
        "Prometheus {{ $labels.instance }} cannot send alerts to Alertmanager",
        "{{ $value | humanize }} alerts were dropped in 5m. If there is a second Alertmanager, "
        "this page comes by it.",
        "{{ $value | humanize }} dropped in 5m",
        "none",
        60,
        cause="sending",
    )
    yield page(
        "TokenpulseAlertingFails",
        # Nothing is dropped then, as there is no queue to drop it from.
        "max by (instance) (prometheus_notifications_alertmanagers_discovered) < 1"
        # A Prometheus of others that evaluates none of these rules needs no Alertmanager.
        f"\nand on (instance) prometheus_rule_group_interval_seconds{{{_OURS}}}",
        "Prometheus {{ $labels.instance }} has no Alertmanager",
        "It evaluates these rules and knows no Alertmanager to send alerts to, as its "
        "configuration names none or service discovery finds none. Only another Prometheus that "
        "scrapes it can send this page; without one the dead-man receiver raises the alarm.",
        "{{ $value }} found",
        "at least 1",
        60,
        cause="no_alertmanager",
    )
    yield ticket(
        "TokenpulseAlertingFails",
        f"max by (rule_group) (prometheus_rule_group_last_duration_seconds{{{_OURS}}})"
        f" > max by (rule_group) (prometheus_rule_group_interval_seconds{{{_OURS}}})",
        "The rules of {{ $labels.rule_group }} take longer than their interval",
        "An evaluation takes {{ $value | humanizeDuration }}, so the next ones are skipped and "
        "alerts come late.",
        "{{ $value | humanizeDuration }}",
        "less than the interval of the group",
        300,
        cause="slow",
    )
    yield ticket(
        "TokenpulseAlertingFails",
        "prometheus_config_last_reload_successful == 0"
        "\nor alertmanager_config_last_reload_successful == 0",
        "{{ $labels.instance }} runs with an old configuration",
        "The last reload failed, so changed rules, routes and receivers are not in use.",
        "failed",
        "loaded",
        60,
        cause="configuration",
    )
