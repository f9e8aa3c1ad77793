"""The metrics of Tokenpulse and of its monitoring while some of their parts fail.

Times are seconds since 1970. All series have the label `job` of the scrape, as in Prometheus.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from alerts.rules.build import builtin_groups
from alerts.rules.model import Alert, Group, Links
from alerts.rules.monitoring import WATCHDOG
from alerts.rules.traffic import traffic_groups
from exporters.catalogue import pipeline as catalogue
from exporters.catalogue import requests, sources
from slo.alert_state import SampleKey, Samples, sample_key
from streams.intake.metrics import ANSWERS_TOTAL, EVENTS_TOTAL, UNDELIVERED_TOTAL

PARTITIONS = 8
ALL = tuple(range(PARTITIONS))
JOB = "tokenpulse-exporter"
SECOND_PROMETHEUS = "prometheus-2:9090"  # the first one scrapes it
_INTAKE = {"job": "tokenpulse-intake"}
_GATEWAY = {**_INTAKE, "source": "gateway"}
_RATE = 20.0  # requests counted per second
_ARCHIVED_EVERY_S = 600.0
# Metrics that Prometheus records itself, and those of other scrape jobs than the exporter's.
_OWN = ("up", "scrape_", "prometheus_", "alertmanager_", "tokenpulse_intake_")


_BEATS = (
    catalogue.PARTITION_PULSE.name,
    catalogue.PARTITION_BROKER.name,
    catalogue.PARTITION_CHECKPOINT.name,
)

# Times of partitions that do not rise while a fault lasts; records wait meanwhile.
_FROZEN = {
    "dead": _BEATS,
    "redis": _BEATS,
    "stuck_exporter": _BEATS,
    "broker": (catalogue.PARTITION_BROKER.name, catalogue.PARTITION_CHECKPOINT.name),
    "halted": (catalogue.PARTITION_CHECKPOINT.name,),
}

# Gauges, and their labels, that are zero while a fault lasts.
_ZERO: dict[str, dict[str, dict[str, str]]] = {
    "redis": {catalogue.STATE_READABLE.name: {}},
    "slow_time": {catalogue.CLOCK_AGREES.name: {"process": "exporter"}},
    "no_alertmanager": {
        "prometheus_notifications_alertmanagers_discovered": {"instance": SECOND_PROMETHEUS}
    },
}


class SampleSetter(Protocol):
    """Sets one sample."""

    def __call__(self, metric: str, value: float, **labels: str) -> None: ...


_NOT_EVALUATED = ("absent", "offset", "min_over_time")


@dataclass(frozen=True, slots=True)
class PipelineFault:
    """A part of the pipeline that fails, from and until seconds after the incident's start."""

    kind: str
    begin_s: int = 0
    end_s: int = 10**9
    partitions: tuple[int, ...] = ALL
    reason: str = ""  # of a halt, or of rejections
    amount: float = 0.0


def evaluated_rules() -> list[Group]:
    """Return the rules on the pipeline and the monitoring that can be evaluated here.

    Left out: `offset`, `absent`, `min_over_time` and the watchdog.
    """
    by_traffic = {group.name for group in traffic_groups()}
    return [
        replace(group, alerts=tuple(filter(_can_evaluate, group.alerts)))
        for group in builtin_groups(Links().job)
        if group.name not in by_traffic
    ]


def _can_evaluate(alert: Alert) -> bool:
    return alert.name != WATCHDOG and not any(word in alert.expr for word in _NOT_EVALUATED)


class PipelineMetrics:
    """The samples at any time of an incident."""

    def __init__(self, faults: Iterable[PipelineFault], start_s: int) -> None:
        self._faults, self._start_s = tuple(faults), start_s

    def samples(self, now_s: float) -> Samples:
        """Return all samples as Prometheus holds them."""
        since_s = now_s - self._start_s
        samples: dict[str, dict[SampleKey, float]] = {}

        def set_sample(metric: str, value: float, **labels: str) -> None:
            samples.setdefault(metric, {})[sample_key({"job": JOB, **labels})] = value

        self._healthy(set_sample, now_s)
        for fault in self._faults:
            if since_s >= fault.begin_s:
                self._apply(fault, set_sample, samples, now_s, since_s)
                self._fail_intake(fault, set_sample, samples, since_s)
        return samples

    def _healthy(self, set_sample: SampleSetter, now_s: float) -> None:
        set_sample("up", 1.0, instance="exporter:9108")
        set_sample("scrape_samples_scraped", 5_000.0, instance="exporter:9108")
        set_sample("scrape_duration_seconds", 0.1, instance="exporter:9108")
        set_sample(
            "prometheus_rule_evaluation_failures_total", 0.0, rule_group="r;tokenpulse-state"
        )
        sent = 1_000.0 + (now_s - self._start_s) / 10
        set_sample("alertmanager_notifications_total", sent, integration="pagerduty")
        set_sample("alertmanager_notifications_failed_total", 0.0, integration="pagerduty")
        set_sample("prometheus_notifications_dropped_total", 0.0, instance="prometheus:9090")
        set_sample("alertmanager_config_last_reload_successful", 1.0)
        for instance in ("prometheus:9090", SECOND_PROMETHEUS):
            set_sample("prometheus_notifications_alertmanagers_discovered", 1.0, instance=instance)
            ours = {"instance": instance, "rule_group": "r;tokenpulse-state"}
            set_sample("prometheus_rule_group_interval_seconds", 5.0, **ours)
        set_sample(catalogue.STATE_READABLE.name, 1.0)
        set_sample(catalogue.EXPORTER_REFRESHED.name, now_s - 1)
        set_sample(catalogue.ARCHIVE_INTERVAL.name, _ARCHIVED_EVERY_S)
        set_sample(catalogue.CLOCK_OFFSET_LIMIT.name, 5.0)
        set_sample(catalogue.CLOCK_OFFSET.name, 0.01, process="exporter")
        set_sample(catalogue.CLOCK_AGREES.name, 1.0, process="exporter")
        set_sample(requests.COUNTED_TOTAL.name, 1e6 + _RATE * (now_s - self._start_s))
        set_sample(requests.REFUSED_TOTAL.name, 0.0, reason="not_json")
        set_sample(requests.DUPLICATES_TOTAL.name, 0.0)
        self._healthy_intake(set_sample, now_s - self._start_s)
        for window, span_s in (("1h", 3_600), ("24h", 86_400)):
            usual = {"scope": "fleet", "window": window, "outcome": "success"}
            set_sample(requests.WINDOW_REQUESTS.name, _RATE * span_s, **usual)
        for window in ("1m", "1h", "24h"):
            set_sample(requests.WINDOW_COMPLETE.name, 1.0, window=window)
        for number in ALL:
            for spec, value in (
                (catalogue.PARTITION_PULSE, now_s - 2),
                (catalogue.PARTITION_BROKER, now_s - 3),
                (catalogue.PARTITION_CHECKPOINT, now_s - 2),
                (catalogue.PARTITION_ARCHIVE, now_s - now_s % _ARCHIVED_EVERY_S),
                (catalogue.PARTITION_FRESHNESS, 4.0),
                (catalogue.PARTITION_LAG, 20.0),
                (catalogue.LOST_RECORDS, 0.0),
                (catalogue.STATE_LOSSES, 0.0),
            ):
                set_sample(spec.name, value, partition=str(number))

    def _healthy_intake(self, set_sample: SampleSetter, since_s: float) -> None:
        """Set the samples of an intake that all requests come by."""
        usual = {"source": "gateway", "window": "24h"}
        set_sample(sources.SOURCE_EVENTS.name, _RATE * 86_400, **usual)
        set_sample("up", 1.0, instance="intake:4318", **_INTAKE)
        set_sample(EVENTS_TOTAL, 1e6 + _RATE * since_s, **_GATEWAY)
        set_sample(ANSWERS_TOTAL, 1e6 + since_s, code="200", **_GATEWAY)
        set_sample(ANSWERS_TOTAL, 0.0, code="503", **_GATEWAY)
        set_sample(UNDELIVERED_TOTAL, 0.0, **_GATEWAY)

    def _fail_intake(
        self,
        fault: PipelineFault,
        set_sample: SampleSetter,
        samples: dict[str, dict[SampleKey, float]],
        since_s: float,
    ) -> None:
        """Change the samples of the intake, if the fault is its own or one of all of Kafka."""
        lasted_s = min(since_s, fault.end_s) - fault.begin_s
        if fault.kind == "intake_stuck" or (fault.kind == "broker" and fault.partitions == ALL):
            set_sample(EVENTS_TOTAL, 1e6 + _RATE * (since_s - lasted_s), **_GATEWAY)
            set_sample(ANSWERS_TOTAL, 1e6 + since_s - lasted_s, code="200", **_GATEWAY)
            set_sample(ANSWERS_TOTAL, lasted_s, code="503", **_GATEWAY)
            set_sample(UNDELIVERED_TOTAL, lasted_s, **_GATEWAY)
        elif fault.kind == "no_intake" and since_s < fault.end_s:
            del samples[EVENTS_TOTAL], samples[ANSWERS_TOTAL], samples[UNDELIVERED_TOTAL]
            set_sample("up", 0.0, instance="intake:4318", **_INTAKE)

    def _apply(
        self,
        fault: PipelineFault,
        set_sample: SampleSetter,
        samples: dict[str, dict[SampleKey, float]],
        now_s: float,
        since_s: float,
    ) -> None:
        begin_s = self._start_s + fault.begin_s
        lasted_s = min(since_s, fault.end_s) - fault.begin_s
        # Counters stay as high as they rose when the fault is over.
        match fault.kind:
            case "refused":
                set_sample(
                    requests.REFUSED_TOTAL.name, fault.amount * lasted_s, reason=fault.reason
                )
            case "uncounted":
                counted = 1e6 + _RATE * (since_s - lasted_s * fault.amount)
                set_sample(requests.COUNTED_TOTAL.name, counted)
            case "duplicates":
                set_sample(requests.DUPLICATES_TOTAL.name, fault.amount * lasted_s)
            case "rules_fail":
                metric = "prometheus_rule_evaluation_failures_total"
                set_sample(metric, lasted_s / 5, rule_group="r;tokenpulse-state")
            case "delivery_fails":
                metric = "alertmanager_notifications_failed_total"
                set_sample(metric, lasted_s / 10, integration="pagerduty")
            case "sending_fails":
                metric = "prometheus_notifications_dropped_total"
                set_sample(metric, lasted_s, instance="prometheus:9090")
            case "lost_records":
                for number in fault.partitions:
                    set_sample(catalogue.LOST_RECORDS.name, fault.amount, partition=str(number))
            case "lost_state":
                for number in fault.partitions:
                    set_sample(catalogue.STATE_LOSSES.name, 1.0, partition=str(number))
        if since_s < fault.end_s:
            self._fail(fault, set_sample, samples, begin_s, now_s)

    def _fail(
        self,
        fault: PipelineFault,
        set_sample: SampleSetter,
        samples: dict[str, dict[SampleKey, float]],
        begin_s: float,
        now_s: float,
    ) -> None:
        """Change the samples that are wrong only while the fault lasts."""
        age_s, frozen = now_s - begin_s, _FROZEN.get(fault.kind, ())
        if fault.kind in ("redis", "stuck_exporter"):
            set_sample(catalogue.EXPORTER_REFRESHED.name, begin_s)
        for metric, labels in _ZERO.get(fault.kind, {}).items():
            set_sample(metric, 0.0, **labels)
        match fault.kind:
            case "halted":
                for number in fault.partitions:
                    labels = {"partition": str(number), "reason": fault.reason}
                    set_sample(catalogue.PARTITION_HALTED.name, 1.0, **labels)
            case "behind":
                for number in fault.partitions:
                    set_sample(
                        catalogue.PARTITION_FRESHNESS.name, 4 + age_s / 2, partition=str(number)
                    )
            case "lost_state" | "lost_records":
                set_sample(requests.WINDOW_COMPLETE.name, 0.0, window="1h")
            case "no_exporter" | "page_rejected":
                for metric in [name for name in samples if not name.startswith(_OWN)]:
                    del samples[metric]
                set_sample("up", 0.0, instance="exporter:9108")
                scraped = 250_000.0 if fault.kind == "page_rejected" else 0.0
                set_sample("scrape_samples_scraped", scraped, instance="exporter:9108")
        # Records wait wherever times stand still.
        for number in fault.partitions if frozen else ():
            for metric in frozen:
                set_sample(metric, begin_s - 2, partition=str(number))
            set_sample(catalogue.PARTITION_LAG.name, 20 + age_s * 2, partition=str(number))
