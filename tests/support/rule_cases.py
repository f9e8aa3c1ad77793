"""For every alerting rule, series on which it must fire and series on which it must not.

Written as unit tests for `promtool test rules`. What the rules should do is said here again by
hand, in plain numbers, and not taken from the compiler.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

STEP_S = 30
STEPS = 80
AT = "40m"  # = STEPS * STEP_S

Labels = Mapping[str, str]
Series = Mapping[str, str]


class Case(NamedTuple):
    """What is seen until AT, and whether the rule fires then."""

    why: str
    fires: bool
    series: Series


def held(value: float | str) -> str:
    return f"{value}+0x{STEPS}"


def then(before: float | str, after: float | str, for_steps: int = 17) -> str:
    """A value that changes before the end; 17 steps are more than eight minutes."""
    return f"{before}+0x{STEPS - for_steps} {after}+0x{for_steps - 1}"


def ended(value: float | str) -> str:
    """A series that stops, longer ago than Prometheus looks back."""
    return f"{value}+0x{STEPS - 17} _x17"


def named(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


# -- objectives with a target ----------------------------------------------------------------------

# Long window -> (factor for 30 days, short window): Google's table.
BURN = {"1h": (14.4, "5m"), "6h": (6.0, "30m"), "1d": (3.0, "2h"), "3d": (1.0, "6h")}
MONTH_DAYS = {"ttft-promise": 28}
TARGETS = {
    ("default", "uptime"): 0.999,
    ("anthropic-priority-style", "uptime"): 0.995,
    ("anthropic-priority-style", "not-overloaded"): 0.995,
    ("azure-style", "uptime"): 0.999,
    ("bedrock-style", "uptime"): 0.999,
    ("gemini-style", "uptime"): 0.995,
    ("openai-scale-style", "uptime"): 0.999,
    ("openai-scale-style", "speed"): 0.99,
    ("shapes", "ttft-promise"): 0.99,
}
PER = {
    ("bedrock-style", "uptime"): {"region": "eu"},
    ("openai-scale-style", "speed"): {"model": "large"},
    ("shapes", "ttft-promise"): {"region": "eu"},
}
# Judged by minutes or slices: the guard is on requests, not on failures.
BY_TIME = {("bedrock-style", "uptime"), ("gemini-style", "uptime"), ("openai-scale-style", "speed")}
CREDITS = {
    ("azure-style", "uptime"): (0.1, 0.25),
    ("bedrock-style", "uptime"): (0.1, 0.25, 1),
    ("gemini-style", "uptime"): (0.1, 0.25, 0.5),
    ("openai-scale-style", "uptime"): (0.1, 0.25),
    ("openai-scale-style", "speed"): (0.25,),
}


def about(rule: Labels) -> tuple[str, str]:
    return rule["policy"], rule["objective"]


def of_objective(rule: Labels, what: str, **more: str) -> str:
    policy, objective = about(rule)
    labels = {"policy": policy, "objective": objective, **PER.get(about(rule), {}), **more}
    return named(f"tokenpulse_objective_{what}", **labels)


def burning(rule: Labels) -> list[Case]:
    long = rule["window"]
    factor, short = BURN[long]
    factor *= MONTH_DAYS.get(rule["objective"], 30) / 30
    budget = 1 - TARGETS[about(rule)]

    def seen(in_long: str, in_short: str, requests_long: int, requests_short: int) -> Series:
        return {
            of_objective(rule, "burn_rate", window=long): in_long,
            of_objective(rule, "burn_rate", window=short): in_short,
            of_objective(rule, "eligible", window=long): held(requests_long),
            of_objective(rule, "eligible", window=short): held(requests_short),
        }

    fast, slow = factor * 1.02, factor * 0.98
    many = 10**7
    if about(rule) in BY_TIME:
        just, few = (many, 10), (many, 9)
    else:  # ten failures, and nine
        just = (round(10 / (fast * budget) + 1), 5)
        few = (int(9.2 / (fast * budget)), 5)
    return [
        Case("both windows burn", True, seen(held(fast), held(fast), many, many)),
        Case("just enough went wrong", True, seen(held(fast), held(fast), *just)),
        Case("below the factor", False, seen(held(slow), held(slow), many, many)),
        Case("too few samples", False, seen(held(fast), held(fast), *few)),
        Case("recovering", False, seen(held(fast), then(fast, 0), many, many)),
        Case("missing data", False, seen(ended(fast), ended(fast), many, many)),
        Case("nothing known", False, {}),
    ]


def missed(rule: Labels) -> list[Case]:
    target = TARGETS[about(rule)]
    gauge = of_objective(rule, "attainment_ratio")
    return [
        Case("under the target", True, {gauge: held(target - 0.0001)}),
        Case("exactly at the target", False, {gauge: held(target)}),
        Case("recovering", False, {gauge: then(target - 0.0001, target + 0.0001)}),
        Case("missing data", False, {gauge: ended(target - 0.0001)}),
    ]


def credit(rule: Labels) -> list[Case]:
    tiers = CREDITS[about(rule)]
    at = tiers.index(float(rule["credit"].rstrip("%")) / 100)
    gauge = of_objective(rule, "credit_share_ratio")
    return [
        Case("the tier is reached", True, {gauge: held(tiers[at])}),
        Case("no credit", False, {gauge: held(0)}),
        Case("recovering", False, {gauge: then(tiers[at], 0)}),
        Case("missing data", False, {gauge: ended(tiers[at])}),
        *(
            Case("another tier has an alert of its own", False, {gauge: held(other)})
            for other in tiers
            if other != tiers[at]
        ),
    ]


# -- objectives with levels ------------------------------------------------------------------------


def latency(rule: Labels) -> list[Case]:
    if rule["objective"] == "ttft-in-eu":
        return within_target(rule)
    if rule["objective"] == "duration":
        return of_two_models(rule)
    name = rule["objective"].partition("-")[0]
    limit_s = {"ttft": 0.3, "tpot": 0.05, "duration": 30}[name]
    if (name, rule["severity"]) == ("ttft", "ticket"):
        limit_s = 0.25
    level = {"quantile": "0.99" if name == "duration" else "0.95"}
    which = {"scope": "fleet"}
    if rule["objective"] == "ttft-by-region":
        which = {"scope": "region", "region": "eu"}

    def seen(five: str, one: str, samples: str) -> Series:
        seconds = f"tokenpulse_{name}_seconds"
        return {
            named(seconds, window="5m", **level, **which): five,
            named(seconds, window="1m", **level, **which): one,
            named(f"tokenpulse_{name}_samples", window="5m", **which): samples,
            # Not what the objective is about:
            named(seconds, window="5m", scope="channel", **level): held(99),
            named(seconds, window="1m", scope="channel", **level): held(99),
        }

    over, under = limit_s * 1.01, limit_s * 0.99
    return [
        Case("over the limit", True, seen(held(over), held(over), held(20))),
        Case("a lull of a minute", True, seen(held(over), held(under), held(20))),
        Case("exactly at the limit", False, seen(held(limit_s), held(limit_s), held(10_000))),
        Case("below target", False, seen(held(under), held(under), held(10_000))),
        Case("too few samples", False, seen(held(over), held(over), held(19))),
        Case("recovering", False, seen(held(over), then(over, limit_s / 2), held(10_000))),
        Case("traffic has stopped", False, seen(held(over), ended(over), held(10_000))),
        Case("missing data", False, seen(ended(over), ended(over), ended(10_000))),
        Case("nothing known", False, {}),
    ]


def within_target(rule: Labels) -> list[Case]:
    """Two channels of one model: 94 of 100 within are too few, 95 are the P95 that was promised."""

    def seen(direct: tuple[float, int], partner: tuple[float, int], region: str = "eu") -> Series:
        found = {}
        for channel, (ratio, count) in (("direct", direct), ("partner", partner)):
            which = {"scope": "series", "window": "5m", "model": "large", "region": region}
            which |= {"channel": channel, "service_tier": "standard"}
            within = named(
                "tokenpulse_within_target_ratio", **which, latency="ttft", target_seconds="0.3"
            )
            found[within] = held(ratio)
            found[named("tokenpulse_ttft_samples", **which)] = held(count)
        return found

    return [
        Case("94 of 100 within", True, seen((1, 60), (0.85, 40))),
        Case("exactly 95 of 100 within", False, seen((1, 60), (0.875, 40))),
        Case("too few samples", False, seen((0, 10), (0, 9))),
        Case("another region", False, seen((0, 60), (0, 40), "us")),
        Case("missing data", False, {}),
    ]


def of_two_models(rule: Labels) -> list[Case]:
    def seen(large: float, small: float, other: float, count: int = 1_000) -> Series:
        found = {}
        for model, ratio in (("large", large), ("v1.5", small), ("v1x5", other)):
            which = {"scope": "model", "window": "5m", "model": model}
            within = named(
                "tokenpulse_within_target_ratio", **which, latency="duration", target_seconds="30"
            )
            found[within] = held(ratio)
            found[named("tokenpulse_duration_samples", **which)] = held(count)
        return found

    return [
        Case("together under 99 of 100", True, seen(1, 0.97, 1)),
        Case("together exactly 99 of 100", False, seen(1, 0.98, 1)),
        Case("another model", False, seen(1, 1, 0)),
        Case("too few samples", False, seen(0, 0, 0, count=9)),
        Case("missing data", False, {}),
    ]


def cache_hit(rule: Labels) -> list[Case]:
    level = 0.4 if (rule["objective"], rule["severity"]) == ("cache-hit", "ticket") else 0.3
    if rule["objective"] == "cache-of-two":
        return cache_of_two(rule)
    which = {"scope": "fleet"}
    if rule["objective"] == "cache-by-customer":
        which = {"scope": "customer", "customer": "Acme, Inc.", "segment": "enterprise"}

    def seen(hour: str, minutes: str, tokens: str) -> Series:
        return {
            named("tokenpulse_cache_hit_ratio", window="1h", **which): hour,
            named("tokenpulse_cache_hit_ratio", window="5m", **which): minutes,
            named("tokenpulse_window_input_tokens", window="1h", **which): tokens,
        }

    low, fine, many = level - 0.01, level + 0.01, held(10**9)
    return [
        Case("below the level", True, seen(held(low), held(low), many)),
        Case("five minutes that are a little better", True, seen(held(low), held(fine), many)),
        Case("exactly at the level", False, seen(held(level), held(level), many)),
        Case("above the level", False, seen(held(fine), held(fine), many)),
        Case("too few samples", False, seen(held(low), held(low), held(99_999))),
        Case("recovering", False, seen(held(low), then(low, 0.6), many)),
        Case("traffic has stopped", False, seen(held(low), ended(low), many)),
        Case("missing data", False, seen(ended(low), ended(low), ended(10**9))),
        Case("nothing known", False, {}),
    ]


def cache_of_two(rule: Labels) -> list[Case]:
    """A ratio of sums: the model with most tokens decides."""

    def seen(
        cached: tuple[int, int, int],
        inputs: tuple[int, int, int],
        minutes: Callable[[int], str] = held,
    ) -> Series:
        found = {}
        for at, model in enumerate(("large", "v1.5", "v1x5")):
            for window, text in (("1h", held), ("5m", minutes)):
                which = {"scope": "model", "window": window, "model": model}
                tokens = named("tokenpulse_window_tokens", type="cached_input", **which)
                found[tokens] = text(cached[at])
                found[named("tokenpulse_window_input_tokens", **which)] = text(inputs[at])
        return found

    million = 10**6
    return [
        Case("together below", True, seen((2 * million, 90, 9), (8 * million, 100, 9))),
        Case(
            "traffic has stopped", False, seen((2 * million, 90, 9), (8 * million, 100, 9), ended)
        ),
        Case("together above", False, seen((4 * million, 0, 0), (8 * million, 100, million))),
        Case("too few samples", False, seen((0, 0, 0), (50_000, 49_999, million))),
        Case("missing data", False, {}),
    ]


def token_volume(rule: Labels) -> list[Case]:
    which, window, times = {"scope": "fleet"}, "5m", 12
    if rule["objective"] == "volume-of-large":
        which, window, times = {"scope": "model", "model": "large"}, "1m", 60

    def seen(now: str | None, hour: int, requests: str = held(10**6)) -> Series:
        found = {
            named("tokenpulse_window_tokens", window="1h", type="output", **which): held(hour),
            named("tokenpulse_window_tokens", window="1h", type="cached_input", **which): held(
                hour
            ),
            named("tokenpulse_window_requests", window="1h", outcome="success", **which): requests,
        }
        if now is not None:
            for kind in ("output", "cached_input"):
                found[named("tokenpulse_window_tokens", window=window, type=kind, **which)] = now
        return found

    usual = 1_000_000
    hour = usual * times
    return [
        Case("a fifth of the usual volume", True, seen(held(usual / 5), hour)),
        Case("nothing at all comes, so the window is gone", True, seen(None, hour)),
        Case("it ended", True, seen(ended(usual), hour)),
        Case("half of the usual volume", False, seen(held(usual / 2), hour)),
        Case("too few samples", False, seen(None, hour, held(50 * times - 1))),
        Case("too few tokens", False, seen(None, 49_999)),
        Case("recovering", False, seen(then(0, usual / 2), hour)),
        Case("missing data", False, {}),
    ]


# -- without a policy ------------------------------------------------------------------------------


def outage(_: Labels) -> list[Case]:
    def seen(ratio: str, eligible: str, **which: str) -> Series:
        return {
            named("tokenpulse_availability_ratio", window="1m", **which): ratio,
            named("tokenpulse_window_eligible_requests", window="1m", **which): eligible,
        }

    eu = {"scope": "region", "region": "eu"}
    return [
        Case("a region is down", True, seen(held(0.49), held(20), **eu)),
        Case("the fleet is down", True, seen(held(0), held(5_000), scope="fleet")),
        Case("just half succeed", False, seen(held(0.5), held(5_000), **eu)),
        Case("too few samples", False, seen(held(0), held(19), **eu)),
        Case("recovering", False, seen(then(0, 0.6), held(5_000), **eu)),
        Case("missing data", False, seen(ended(0), ended(5_000), **eu)),
        Case("a customer is no region", False, seen(held(0), held(99), scope="customer")),
    ]


NOW = f"0+{STEP_S}x{STEPS}"
PARTITION = {"partition": "0"}
TWO = ("a:9464", "b:9464")


def ago(age_s: int) -> str:
    """A point in time that stays that long ago."""
    return f"{-age_s}+{STEP_S}x{STEPS}"


def stale(rule: Labels) -> list[Case]:
    return {
        "state": stale_state,
        "exporter": stale_exporter,
        "worker": stale_worker,
        "checkpoint": stale_checkpoint,
        "behind": behind,
    }[rule["cause"]]()


def stale_state() -> list[Case]:
    def seen(*values: str) -> Series:
        return {
            named("tokenpulse_state_readable", instance=instance): value
            for instance, value in zip(TWO, values, strict=False)
        }

    return [
        Case("neither can read it", True, seen(held(0), held(0))),
        Case("one can", False, seen(held(0), held(1))),
        Case("recovering", False, seen(then(0, 1))),
        Case("missing data: TokenpulseExporterDown tells", False, {}),
    ]


def stale_exporter() -> list[Case]:
    gauge = "tokenpulse_exporter_refreshed_timestamp_seconds"
    return [
        Case("read half a minute ago", True, {gauge: ago(31)}),
        Case("read just now", False, {gauge: ago(2)}),
        Case(
            "one of two is fresh",
            False,
            dict(zip([named(gauge, instance=one) for one in TWO], [ago(500), ago(1)], strict=True)),
        ),
        Case("missing data: TokenpulseExporterDown tells", False, {}),
    ]


def stale_worker() -> list[Case]:
    gauge = named("tokenpulse_partition_pulse_timestamp_seconds", **PARTITION)
    other = named("tokenpulse_partition_pulse_timestamp_seconds", partition="1")
    return [
        Case("its worker died", True, {gauge: held(STEPS * STEP_S - 31), other: NOW}),
        Case("it lives", False, {gauge: ago(1), other: NOW}),
        Case("recovering: another worker took it", False, {gauge: f"0+0x40 1200+{STEP_S}x40"}),
        Case("missing data", False, {}),
    ]


def checkpoint_state(written: str, lag: str, halted: str | None = None) -> Series:
    found = {
        named("tokenpulse_partition_checkpoint_timestamp_seconds", **PARTITION): written,
        named("tokenpulse_partition_lag_records", **PARTITION): lag,
    }
    if halted is not None:
        found[named("tokenpulse_partition_halted", **PARTITION, reason="store_policy")] = halted
    return found


def stale_checkpoint() -> list[Case]:
    return [
        Case("records wait", True, checkpoint_state(ago(61), held(5))),
        Case("silence: nothing waits", False, checkpoint_state(ago(5_000), held(0))),
        Case("written", False, checkpoint_state(ago(2), held(5_000))),
        Case("halted has an alert of its own", False, checkpoint_state(ago(61), held(5), held(1))),
        Case("missing data", False, {}),
    ]


def behind() -> list[Case]:
    def seen(age: str, written: str) -> Series:
        return {
            named("tokenpulse_partition_freshness_seconds", **PARTITION): age,
            named("tokenpulse_partition_checkpoint_timestamp_seconds", **PARTITION): written,
        }

    return [
        Case("catching up", True, seen(held(61), NOW)),
        Case("fresh", False, seen(held(2), NOW)),
        Case("recovering", False, seen(then(500, 3), NOW)),
        Case("silence since then", False, seen(held(500), ago(5_000))),
        Case("missing data", False, {}),
    ]


def exporter_down(rule: Labels) -> list[Case]:
    def up(*values: str) -> Series:
        return {
            named("up", job="tokenpulse-exporter", instance=instance): value
            for instance, value in zip(TWO, values, strict=False)
        }

    if rule["severity"] == "ticket":
        return [
            Case("one of two", True, up(held(1), held(0))),
            Case("none is down", False, up(held(1), held(1))),
            Case("both are down: that pages", False, up(held(0), held(0))),
            Case("recovering", False, up(held(1), then(0, 1))),
            Case("missing data: that pages", False, {}),
        ]
    return [
        Case("both are down", True, up(held(0), held(0))),
        Case("missing data: not even a target", True, {}),
        Case("one answers", False, up(held(0), held(1))),
        Case("recovering", False, up(then(0, 1))),
    ]


def disagree(_: Labels) -> list[Case]:
    def seen(one: str, two: str) -> Series:
        return {
            named("tokenpulse_partition_offset", **PARTITION, instance=instance): value
            for instance, value in zip(TWO, (one, two), strict=True)
        }

    rising = f"0+10x{STEPS}"
    return [
        Case("one stands still", True, seen(rising, "0+10x60 600+0x20")),
        Case("they agree", False, seen(rising, rising)),
        Case("one is a scrape older", False, seen(rising, f"-10+10x{STEPS}")),
        Case("recovering", False, seen(rising, "0+0x60 610+10x19")),
        Case("a rollback is no disagreement", False, seen(*["0+10x77 0+10x2"] * 2)),
        Case(
            "missing data: one exporter only",
            False,
            {named("tokenpulse_partition_offset", **PARTITION, instance=TWO[0]): rising},
        ),
    ]


def halted(_: Labels) -> list[Case]:
    gauge = named("tokenpulse_partition_halted", **PARTITION, reason="store_policy")
    return [
        Case("halted", True, {gauge: held(1)}),
        Case("recovering: resumed", False, {gauge: ended(1)}),
        Case("missing data", False, {}),
    ]


def incomplete(_: Labels) -> list[Case]:
    gauge = named("tokenpulse_window_complete", window="6h")
    return [
        Case("records are missing", True, {gauge: held(0)}),
        Case("whole", False, {gauge: held(1)}),
        Case("recovering", False, {gauge: then(0, 1)}),
        Case("missing data", False, {}),
    ]


def archive_old(_: Labels) -> list[Case]:
    gauge = named("tokenpulse_partition_archive_timestamp_seconds", **PARTITION)
    hourly = {named("tokenpulse_archive_interval_seconds"): held(3_600)}
    daily = {named("tokenpulse_archive_interval_seconds"): held(86_400)}
    return [
        Case("more than two intervals", True, {gauge: ago(7_201), **hourly}),
        Case("an interval", False, {gauge: ago(3_601), **hourly}),
        Case("written every day, 20 hours ago", False, {gauge: ago(72_000), **daily}),
        Case("written every day, two days ago", True, {gauge: ago(172_801), **daily}),
        Case("archiving was switched off", False, {gauge: ago(172_801)}),
        Case("missing data: no archive configured", False, {}),
    ]


def rose(counter: str, by: int, **labels: str) -> Callable[[Labels], list[Case]]:
    series = named(counter, **labels)

    def cases(_: Labels) -> list[Case]:
        return [
            Case("it rises", True, {series: then(7, 7 + by, 4)}),
            Case("flat", False, {series: held(7)}),
            Case("recovering: it rose long ago", False, {series: then(7, 7 + by, 40)}),
            Case("begun again at zero", False, {series: then(7, 0, 4)}),
            Case("missing data", False, {}),
        ]

    return cases


def store_errors(rule: Labels) -> list[Case]:
    counter = named("tokenpulse_worker_store_errors_total", worker="w1")
    a_few = Case("a few are tried again", False, {counter: then(0, 5, 4)})
    return [*rose("tokenpulse_worker_store_errors_total", 50, worker="w1")(rule), a_few]


def lag_growing(_: Labels) -> list[Case]:
    gauge = named("tokenpulse_partition_lag_records", **PARTITION)
    return [
        Case("more and more", True, {gauge: f"0+100x{STEPS}"}),
        Case("few records", False, {gauge: f"0+1x{STEPS}"}),
        Case("recovering", False, {gauge: f"900000-100x{STEPS}"}),
        Case("missing data", False, {gauge: "0+100x55 _x25"}),
    ]


def refused(_: Labels) -> list[Case]:
    def seen(rejections: str, requests: str | None) -> Series:
        found = {named("tokenpulse_refused_total", reason="not_json"): rejections}
        if requests is not None:
            found[named("tokenpulse_requests_total", model="large", outcome="success")] = requests
        return found

    many = f"0+1000x{STEPS}"
    return [
        Case("two percent", True, seen(f"0+20x{STEPS}", many)),
        Case("all of them", True, seen(f"0+20x{STEPS}", None)),
        Case("half a percent", False, seen(f"0+5x{STEPS}", many)),
        Case("too few samples", False, seen(then(0, 5, 4), None)),
        Case("recovering", False, seen(then(0, 50_000), many)),
        Case("missing data", False, {}),
    ]


ALWAYS = {"TokenpulseWatchdog": "a dead-man's switch must never be silent"}
CASES: dict[str, Callable[[Labels], list[Case]]] = {
    "TokenpulseErrorBudgetBurn": burning,
    "TokenpulseObjectiveMissed": missed,
    "TokenpulseCreditDue": credit,
    "TokenpulseTtftHigh": latency,
    "TokenpulseTpotHigh": latency,
    "TokenpulseDurationHigh": latency,
    "TokenpulseCacheHitLow": cache_hit,
    "TokenpulseTokenVolumeDrop": token_volume,
    "TokenpulseOutage": outage,
    "TokenpulseWatchdog": lambda _: [Case("missing data", True, {})],
    "TokenpulseDataStale": stale,
    "TokenpulseExporterDown": exporter_down,
    "TokenpulseExportersDisagree": disagree,
    "TokenpulsePartitionHalted": halted,
    "TokenpulseWindowIncomplete": incomplete,
    "TokenpulseArchiveOld": archive_old,
    "TokenpulseRecordsLost": rose("tokenpulse_lost_records_total", 1, partition="0"),
    "TokenpulseStateLost": rose("tokenpulse_state_losses_total", 1, partition="0"),
    "TokenpulseStateRolledBack": rose("tokenpulse_state_rollbacks_total", 1, worker="w1"),
    "TokenpulseStateConflict": rose("tokenpulse_worker_conflicts_total", 1, worker="w1"),
    "TokenpulseStoreErrors": store_errors,
    "TokenpulseDuplicateWindowForgotten": rose(
        "tokenpulse_duplicate_window_forgotten_total", 9, partition="0"
    ),
    "TokenpulseLabelsFolded": rose("tokenpulse_folded_total", 1, dimension="model"),
    "TokenpulseLagGrowing": lag_growing,
    "TokenpulseRecordsRefused": refused,
}


def alerts_in(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def isolated(rule: Mapping[str, Any]) -> str:
    """A rule file with this rule alone, as promtool evaluates all of a file at every step."""
    return yaml.safe_dump({"groups": [{"name": "one", "rules": [dict(rule)]}]}, width=10_000)


def unit_tests(rule_file: str, rule: Mapping[str, Any]) -> str:
    """The file by which promtool tests the rule that is alone in a rule file."""
    chosen = ",".join(f'{key}="{value}"' for key, value in rule["labels"].items())
    chosen = f'alertname="{rule["alert"]}",{chosen}'
    firing = f'ALERTS{{alertstate="firing",{chosen}}}'
    tests = [
        {
            "name": f"{chosen} {'fires' if case.fires else 'is silent'}: {case.why}",
            "interval": f"{STEP_S}s",
            "input_series": [
                {"series": series, "values": values} for series, values in case.series.items()
            ],
            "promql_expr_test": [
                {
                    # promtool shows the expression of a failed test, but not its name
                    "expr": f"count(count by (alertname) ({firing})) or vector(0) # {case.why}",
                    "eval_time": AT,
                    "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
                }
            ],
        }
        for case in CASES[rule["alert"]](rule["labels"])
    ]
    whole = {"rule_files": [rule_file], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    return yaml.safe_dump(whole, sort_keys=False, width=10_000)
