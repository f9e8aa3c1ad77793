"""When rules about the intake fire, and when not."""

from tests.support.rule_cases_pipeline import NOW, ago
from tests.support.rule_series import STEPS, Case, Labels, ended, held, named, then

JOB, EXPORTERS = "tokenpulse-intake", "tokenpulse-exporter"
RISES, FLAT = f"0+20x{STEPS}", held(20)


def running(*values: str, job: str = JOB) -> dict[str, str]:
    return {
        named("up", job=job, instance=instance): value
        for instance, value in zip(("a:4318", "b:4318"), values, strict=False)
    }


def answers(failed: str, confirmed: str, job: str = JOB) -> dict[str, str]:
    """Return requests not delivered, answers 503 and 200, and events that Kafka confirmed."""
    name = "tokenpulse_intake_answers_total"
    return {
        named("tokenpulse_intake_undelivered_total", job=job, source="gateway"): failed,
        named(name, job=job, source="gateway", code="503"): failed,
        named(name, job=job, source="gateway", code="200"): confirmed,
        named("tokenpulse_intake_events_total", job=job, source="gateway"): confirmed,
    }


def broker(*ages_s: int, job: str = EXPORTERS) -> dict[str, str]:
    """Return when Kafka last answered the workers of some partitions."""
    series: dict[str, str] = {}
    for number, age_s in enumerate(ages_s):
        which = {"job": job, "partition": str(number)}
        series[named("tokenpulse_partition_pulse_timestamp_seconds", **which)] = NOW
        series[named("tokenpulse_partition_broker_timestamp_seconds", **which)] = ago(age_s)
    return series


def intake_down(rule: Labels) -> list[Case]:
    return {
        "down": not_running(),
        "some": some_running(),
        "delivery": stuck(),
        "unavailable": answered_503(),
        "schema": without_schema(),
    }[rule["cause"]]


def not_running() -> list[Case]:
    return [
        Case("the only one is down", True, running(held(0))),
        Case("both are down", True, running(held(0), held(0))),
        Case("one answers", False, running(held(0), held(1))),
        Case("a second Tokenpulse has its own job", True, running(held(0), job=f"{JOB}-b")),
        Case("an exporter is down", False, running(held(0), job=EXPORTERS)),
        Case("recovering", False, running(then(0, 1))),
        Case("missing data: there is no intake", False, {}),
    ]


def some_running() -> list[Case]:
    return [
        Case("one of two", True, running(held(1), held(0))),
        Case("none is down", False, running(held(1), held(1))),
        Case("both are down: that pages", False, running(held(0), held(0))),
        Case("recovering", False, running(held(1), then(0, 1))),
        Case("missing data", False, {}),
    ]


def stuck() -> list[Case]:
    nothing = answers(RISES, FLAT)
    return [
        Case("all is answered with 503", True, nothing),
        Case("and no event was ever confirmed", True, dict([*nothing.items()][:1])),
        Case("bodies arrive too slowly", False, dict([*nothing.items()][1:])),
        Case("some events are confirmed", False, answers(RISES, RISES)),
        Case("all is well", False, answers(FLAT, RISES)),
        Case("no request, no event", False, answers(FLAT, FLAT)),
        Case("workers get answers of Kafka", True, nothing | broker(3, 3)),
        Case("Kafka answers one of two workers", True, nothing | broker(40, 3)),
        Case("Kafka is down: DataStale pages", False, nothing | broker(40, 40)),
        Case(
            "Kafka of another Tokenpulse is down too",
            True,
            nothing | broker(40) | broker(3, job="other"),
        ),
        Case("recovering", False, answers(f"0+20x{STEPS - 6} _x6", f"20+0x{STEPS - 6} 40+20x5")),
        Case("missing data", False, {}),
    ]


def answered_503() -> list[Case]:
    return [
        Case("one in fifty", True, answers(RISES, f"0+980x{STEPS}")),
        Case("one in a thousand", False, answers(RISES, f"0+19980x{STEPS}")),
        Case("less than ten", False, answers(then(0, 5), FLAT)),
        Case("recovering", False, answers(then(0, 900), RISES)),
        Case("missing data", False, {}),
    ]


def without_schema() -> list[Case]:
    gauge = named("tokenpulse_intake_waiting_for_schema", job=JOB, source="t", partition="0")
    other = named("tokenpulse_intake_waiting_for_schema", job=JOB, source="t", partition="1")
    return [
        Case("one of two partitions waits", True, {gauge: held(1), other: held(0)}),
        Case("none waits", False, {gauge: held(0), other: held(0)}),
        Case("recovering", False, {gauge: then(1, 0)}),
        Case("missing data", False, {gauge: ended(1)}),
    ]


def intake_explains(rule: Labels) -> list[Case]:
    """Of 1,000 requests a day the intake sent some."""
    of_intake = rule["explains"] == "intake"

    def seen(by_intake: int, *exporters: str) -> dict[str, str]:
        series: dict[str, str] = {}
        for job in exporters or (EXPORTERS,):
            which = {"job": job, "window": "24h"}
            series[named("tokenpulse_source_events", source="gateway", **which)] = held(by_intake)
            fleet = named("tokenpulse_window_requests", scope="fleet", outcome="success", **which)
            series[fleet] = held(1_000)
            series[named("tokenpulse_exporter_refreshed_timestamp_seconds", job=job)] = NOW
        return series

    down, well = running(held(0)), running(held(1)) | answers(FLAT, RISES)
    return [
        Case("it is down, and sent all", True, seen(1_000) | down),
        Case("it is down, and sent half", True, seen(500) | down),
        Case("it is down, and sent less", not of_intake, seen(499) | down),
        Case("Kafka confirms nothing", True, seen(900) | running(held(1)) | answers(RISES, FLAT)),
        Case("it delivers", False, seen(1_000) | well),
        Case("one of two is down", False, seen(1_000) | running(held(0), held(1))),
        Case("it may be that of another Tokenpulse", False, seen(1_000, "a", "b") | down),
        Case("recovering", False, seen(1_000) | running(then(0, 1))),
        Case("missing data", False, {}),
    ]
