"""When the rules about scrapes, rules and delivery fire, and when not."""

from tests.support.rule_cases_pipeline import TWO
from tests.support.rule_series import STEPS, Case, Labels, ended, held, named, then

JOB = "tokenpulse-exporter"
RISES, FLAT = f"0+1x{STEPS}", held(3)


def scraped(metric: str, *values: str, job: str = JOB) -> dict[str, str]:
    """Return a series of each of one or two exporters."""
    return {
        named(metric, job=job, instance=instance): value
        for instance, value in zip(TWO, values, strict=False)
    }


def exporter_down(rule: Labels) -> list[Case]:
    def up(*values: str, job: str = JOB) -> dict[str, str]:
        return scraped("up", *values, job=job)

    def page(*values: str, job: str = JOB) -> dict[str, str]:
        return scraped("tokenpulse_exporter_refreshed_timestamp_seconds", *values, job=job)

    return {
        "some": [
            Case("one of two", True, up(held(1), held(0))),
            Case("none is down", False, up(held(1), held(1))),
            Case("both are down: that pages", False, up(held(0), held(0))),
            Case("recovering", False, up(held(1), then(0, 1))),
            Case("missing data: that pages", False, {}),
        ],
        "down": [
            Case("both are down", True, up(held(0), held(0))),
            Case("missing data is no proof that an exporter is down", False, {}),
            Case("one answers", False, up(held(0), held(1))),
            Case("its numbers arrive all the same", False, up(held(0)) | page(held(1))),
            Case("those of another are down", False, up(held(0), job="other")),
            Case("recovering", False, up(then(0, 1))),
        ],
        "no_target": [
            Case("missing data: not even a target", True, {}),
            Case("only targets of other jobs", True, up(held(1), job="other")),
            Case("a target is down", False, up(held(0))),
            Case("a job of another name has numbers", False, page(held(1), job="other")),
            Case("recovering", False, up("_x20 1x60")),
        ],
        "job_name": [
            Case("numbers come from another job", True, page(held(1), job="other")),
            Case("the job has the name", False, page(held(1)) | up(held(1))),
            Case("missing data", False, {}),
        ],
    }[rule["cause"]]


def scrape_limit(rule: Labels) -> list[Case]:
    samples, up = "scrape_samples_scraped", "up"
    rejected = "prometheus_target_scrapes_exceeded_body_size_limit_total"
    near = {
        "near_samples": (samples, 160_000),
        "near_timeout": ("scrape_duration_seconds", 3.2),
    }
    if rule["cause"] in near:
        metric, limit = near[rule["cause"]]
        return [
            Case("just above", True, scraped(metric, held(limit * 1.01))),
            Case("one of two", True, scraped(metric, held(1), held(limit * 1.01))),
            Case("at the limit", False, scraped(metric, held(limit))),
            Case("another job", False, scraped(metric, held(limit * 9), job="other")),
            Case("recovering", False, scraped(metric, then(limit * 2, 1))),
            Case("missing data", False, {}),
        ]
    if rule["cause"] == "dropped":
        dropped = "tokenpulse_exporter_dropped_samples"
        return [
            Case("one of two", True, scraped(dropped, held(0), held(1))),
            Case("none", False, scraped(dropped, held(0), held(0))),
            Case("recovering", False, scraped(dropped, then(9, 0))),
            Case("missing data", False, {}),
        ]
    if rule["cause"] == "body":
        return [
            Case("too long", True, scraped(up, held(0)) | {rejected: RISES}),
            Case("that of another job", False, scraped(up, held(1)) | {rejected: RISES}),
            Case(
                "that of another job, while the exporter is down",
                False,
                scraped(up, held(0)) | scraped(up, held(0), job="other") | {rejected: RISES},
            ),
            Case(
                "another job is well",
                True,
                scraped(up, held(0)) | scraped(up, held(1), job="other") | {rejected: RISES},
            ),
            Case("down for another reason", False, scraped(up, held(0)) | {rejected: FLAT}),
            Case("missing data", False, scraped(up, held(0))),
        ]
    return [
        Case("it answers, and is refused", True, scraped(samples, held(9)) | scraped(up, held(0))),
        Case("it does not answer", False, scraped(samples, held(0)) | scraped(up, held(0))),
        Case("all is well", False, scraped(samples, held(9)) | scraped(up, held(1))),
        Case(
            "one refused, another down",
            False,
            scraped(samples, held(9), held(0)) | scraped(up, held(1), held(0)),
        ),
        Case("recovering", False, scraped(samples, held(9)) | scraped(up, then(0, 1))),
        Case("missing data", False, {}),
    ]


def alerting_fails(rule: Labels) -> list[Case]:
    ours = {"rule_group": "/rules/tokenpulse.yml;tokenpulse-outage"}
    theirs = {"rule_group": "/rules/node.yml;node"}
    last, interval = (
        f"prometheus_rule_group_{name}_seconds" for name in ("last_duration", "interval")
    )
    if rule["cause"] == "slow":
        return [
            Case("slow", True, {named(last, **ours): held(6), named(interval, **ours): held(5)}),
            Case("fast", False, {named(last, **ours): held(5), named(interval, **ours): held(5)}),
            Case(
                "others",
                False,
                {named(last, **theirs): held(6), named(interval, **theirs): held(5)},
            ),
            Case("missing data", False, {}),
        ]
    if rule["cause"] == "no_alertmanager":
        return no_alertmanager(named(interval, instance="one:9090", **ours), theirs)
    if rule["cause"] == "configuration":
        loaded = {"prometheus_config_last_reload_successful": held(1)}
        return [
            Case("Prometheus", True, {"prometheus_config_last_reload_successful": held(0)}),
            Case(
                "Alertmanager",
                True,
                loaded | {"alertmanager_config_last_reload_successful": held(0)},
            ),
            Case("loaded", False, loaded),
            Case("recovering", False, {"prometheus_config_last_reload_successful": then(0, 1)}),
            Case("missing data", False, {}),
        ]
    if rule["cause"] == "delivery":
        return delivery(rule["severity"] == "page")
    counter, labels = {
        "evaluation": ("prometheus_rule_evaluation_failures_total", ours),
        "sending": ("prometheus_notifications_dropped_total", {"instance": "prometheus:9090"}),
    }[rule["cause"]]
    cases = [
        Case("it rises", True, {named(counter, **labels): RISES}),
        Case("flat", False, {named(counter, **labels): FLAT}),
        Case("recovering", False, {named(counter, **labels): then(0, 9, 40)}),
        Case("stopped", False, {named(counter, **labels): ended(3)}),
        Case("missing data", False, {}),
    ]
    if rule["cause"] == "evaluation":
        cases.append(Case("rules of others", False, {named(counter, **theirs): RISES}))
    return cases


def no_alertmanager(our_rules: str, theirs: Labels) -> list[Case]:
    def found(value: str, instance: str = "one:9090") -> dict[str, str]:
        metric = "prometheus_notifications_alertmanagers_discovered"
        return {our_rules: held(5), named(metric, instance=instance): value}

    their_rules = named("prometheus_rule_group_interval_seconds", instance="two:9090", **theirs)
    return [
        Case("none", True, found(held(0))),
        Case("none since the start of the last ten minutes", True, found(then(2, 0))),
        Case("one", False, found(held(1))),
        Case("one of two Prometheus", True, found(held(1), "two:9090") | found(held(0))),
        Case("one without our rules", False, found(held(0), "two:9090") | {their_rules: held(5)}),
        Case("recovering", False, found(then(0, 1))),
        Case("missing data", False, {our_rules: held(5)}),
    ]


def delivery(is_page: bool) -> list[Case]:
    def messages(failed: str, sent: str, to: str = "pagerduty") -> dict[str, str]:
        name = "alertmanager_notifications_{}total"
        return {
            named(name.format("failed_"), integration=to): failed,
            named(name.format(""), integration=to): sent,
        }

    single, many = then(0, 1), f"0+9x{STEPS}"
    return [
        Case("all fail", True, messages(RISES, RISES)),
        Case("most fail", True, messages(f"0+6x{STEPS}", f"0+10x{STEPS}")),
        Case("one of many fails", not is_page, messages(single, many)),
        Case("the only one fails", not is_page, messages(single, single)),
        Case("few of many fail", not is_page, messages(RISES, many)),
        Case("all of another fail", True, messages(FLAT, many) | messages(RISES, RISES, "slack")),
        Case("none fails", False, messages(FLAT, many)),
        Case("recovering", False, messages(then(0, 9, 60), many)),
        Case("stopped", False, messages(ended(3), ended(3))),
        Case("missing data", False, {}),
    ]
