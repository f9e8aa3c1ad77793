"""When rules about Tokenpulse itself fire, and when not."""

from collections.abc import Callable

from tests.support.rule_series import STEP_S, STEPS, Case, Labels, Series, ended, held, named, then

NOW = f"0+{STEP_S}x{STEPS}"
PARTITION = {"partition": "0"}
TWO = ("a:9464", "b:9464")  # exporters


def ago(age_s: int) -> str:
    """A point in time that stays that long ago."""
    return f"{-age_s}+{STEP_S}x{STEPS}"


def stale(rule: Labels) -> list[Case]:
    return {
        "state": stale_state,
        "exporter": stale_exporter,
        "workers": stale_workers,
        "worker": stale_worker,
        "broker": stale_broker,
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


BEHIND = named("tokenpulse_partition_freshness_seconds", partition="0")


def late_records() -> list[Case]:
    """Four partitions, of which the first is late, or some are halted."""

    def seen(
        pulse_s: int = 2, broker_s: int = 3, written_s: int = 2, fresh_s: int = 4, halted: int = 0
    ) -> Series:
        found = {named("tokenpulse_partition_lag_records", partition="0"): held(10)}
        for number in range(4):
            late, which = number == 0, {"partition": str(number)}
            for name, age_s, usual_s in (
                ("pulse", pulse_s, 2),
                ("broker", broker_s, 3),
                ("checkpoint", written_s, 2),
            ):
                gauge = named(f"tokenpulse_partition_{name}_timestamp_seconds", **which)
                found[gauge] = ago(age_s if late else usual_s)
            fresh = named("tokenpulse_partition_freshness_seconds", **which)
            found[fresh] = held(fresh_s if late else 4)
            reason = named("tokenpulse_partition_halted", reason="store_policy", **which)
            found[reason] = held(int(number < halted))
        return found

    return [
        Case("its worker is dead", True, seen(pulse_s=31, broker_s=32)),
        Case("Kafka does not answer its worker", True, seen(broker_s=23)),
        Case("its records wait", True, seen(written_s=61)),
        Case("it is behind", True, seen(fresh_s=61)),
        Case("half of the partitions are halted", True, seen(written_s=61, halted=2)),
        Case("a quarter is halted", False, seen(written_s=61, halted=1)),
        Case("all are current", False, seen()),
        Case("it was behind", False, {**seen(), BEHIND: then(61, 4)}),
        Case("missing data", False, {}),
    ]


def stale_broker() -> list[Case]:
    broker = named("tokenpulse_partition_broker_timestamp_seconds", **PARTITION)
    pulse = named("tokenpulse_partition_pulse_timestamp_seconds", **PARTITION)
    return [
        Case("Kafka is away, the worker is not", True, {broker: ago(22), pulse: ago(1)}),
        Case("Kafka answered just now", False, {broker: ago(3), pulse: ago(1)}),
        Case("the worker died too: cause worker tells", False, {broker: ago(60), pulse: ago(60)}),
        Case("the worker froze just now", False, {broker: ago(25), pulse: ago(22)}),
        Case("a worker that does not report it", False, {pulse: ago(1)}),
    ]


def stale_workers() -> list[Case]:
    gauges = [
        named("tokenpulse_partition_pulse_timestamp_seconds", partition=str(at)) for at in (0, 1)
    ]
    dead = held(STEPS * STEP_S - 31)
    return [
        Case("all workers died", True, dict.fromkeys(gauges, dead)),
        Case("one lives", False, dict(zip(gauges, (dead, NOW), strict=True))),
        Case("they live", False, dict.fromkeys(gauges, NOW)),
        Case("recovering", False, dict.fromkeys(gauges, f"0+0x40 1200+{STEP_S}x40")),
        Case("missing data", False, {}),
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
        Case("as far behind as before", True, seen(held(61), NOW)),
        Case("catching up slowly", True, seen(f"3000-{STEP_S}x{STEPS}", NOW)),
        Case("catching up", False, seen(f"8000-{3 * STEP_S}x{STEPS}", NOW)),
        Case("fresh", False, seen(held(2), NOW)),
        Case("recovering", False, seen(then(500, 3), NOW)),
        Case("silence since then", False, seen(held(500), ago(5_000))),
        Case("missing data", False, {}),
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


def clock_off(rule: Labels) -> list[Case]:
    return {"offset": clock_differs, "unchecked": clock_unchecked}[rule["cause"]]()


def clock_unchecked() -> list[Case]:
    limit = {named("tokenpulse_clock_offset_limit_seconds"): held(5)}
    agrees = named("tokenpulse_clock_agrees", process="w1")
    offset = named("tokenpulse_clock_offset_seconds", process="w1")
    exporters = [
        named("tokenpulse_clock_agrees", process="exporter", instance=instance) for instance in TWO
    ]
    return [
        Case("Redis does not give its time", True, {agrees: held(0), **limit}),
        Case("it takes too long", True, {agrees: held(0), offset: held(1), **limit}),
        Case("near the limit", True, {agrees: held(0), offset: held(-4.9), **limit}),
        Case("one of two exporters", True, dict(zip(exporters, (held(1), held(0)), strict=True))),
        Case("cause offset tells", False, {agrees: held(0), offset: held(6), **limit}),
        Case("they agree", False, {agrees: held(1), offset: held(0), **limit}),
        Case("recovering", False, {agrees: then(0, 1), **limit}),
        Case("a version that does not report it", False, limit),
    ]


def clock_differs() -> list[Case]:
    limit = {named("tokenpulse_clock_offset_limit_seconds"): held(5)}
    exporter = named("tokenpulse_clock_offset_seconds", process="exporter")
    worker = named("tokenpulse_clock_offset_seconds", process="w1")
    return [
        Case("ahead", True, {exporter: held(6), worker: held(0), **limit}),
        Case("behind", True, {exporter: held(0), worker: held(-6), **limit}),
        Case("within the limit", False, {exporter: held(5), worker: held(-5), **limit}),
        Case(
            "a larger limit",
            False,
            {exporter: held(6), named("tokenpulse_clock_offset_limit_seconds"): held(10)},
        ),
        Case("corrected", False, {exporter: then(6, 0), **limit}),
        Case("missing data: cause unchecked tells", False, limit),
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


def refused(rule: Labels) -> list[Case]:
    def seen(rejections: str, counted: str) -> Series:
        return {
            named("tokenpulse_refused_total", reason="not_json"): rejections,
            "tokenpulse_counted_total": counted,
        }

    many, none = f"0+1000x{STEPS}", held(0)
    if rule["severity"] == "page":
        return [
            Case("more than half", True, seen(f"0+1001x{STEPS}", many)),
            Case("all of them", True, seen(f"0+20x{STEPS}", none)),
            Case("half", False, seen(many, many)),
            Case("too few samples", False, seen(f"0+12x{STEPS}", none)),
            Case("recovering", False, seen(then(0, 50_000), many)),
            Case("missing data", False, {}),
        ]
    return [
        Case("two percent", True, seen(f"0+20x{STEPS}", many)),
        Case("all of them", True, seen(f"0+20x{STEPS}", none)),
        Case("half a percent", False, seen(f"0+5x{STEPS}", many)),
        Case("too few samples", False, seen(then(0, 5, 4), none)),
        Case("recovering", False, seen(then(0, 50_000), many)),
        Case("missing data", False, {}),
    ]


def nothing_counted(_: Labels) -> list[Case]:
    def seen(rejections: str, duplicates: str, counted: str) -> Series:
        return {
            named("tokenpulse_refused_total", reason="not_json"): rejections,
            "tokenpulse_duplicates_total": duplicates,
            "tokenpulse_counted_total": counted,
        }

    def usual(day: int) -> Series:
        about = {"scope": "fleet", "window": "24h", "outcome": "success"}
        return {named("tokenpulse_window_requests", **about): held(day)}

    def lately(hour: int) -> Series:
        about = {"scope": "fleet", "window": "1h", "outcome": "success"}
        return {named("tokenpulse_window_requests", **about): held(hour)}

    just = f"0+9x{STEPS - 6} {9 * (STEPS - 6)}+0x5"  # counted until three minutes ago
    flat, few, rising = held(9), f"0+2x{STEPS}", f"0+20x{STEPS}"
    return [
        Case("all are rejected", True, seen(rising, flat, flat)),
        Case("for three minutes by day", True, {**seen(rising, flat, just), **lately(600)}),
        Case("for three minutes at night", False, {**seen(rising, flat, just), **lately(599)}),
        Case("all are duplicates", True, {**seen(flat, rising, flat), **usual(100_000)}),
        Case("a replay in a night", False, {**seen(flat, rising, flat), **usual(200_000)}),
        Case("a quiet night with a few again", False, {**seen(flat, few, flat), **usual(500)}),
        Case("few are rejected in it", True, {**seen(few, few, flat), **usual(200_000)}),
        Case("all are duplicates, by day unknown", False, seen(flat, rising, flat)),
        Case("no request was ever counted", True, seen(rising, flat, held(0))),
        Case(
            "one in a thousand is counted",
            False,
            seen(f"0+1000x{STEPS}", flat, f"0+1x{STEPS}"),
        ),
        Case("silence", False, seen(flat, flat, flat)),
        Case("too few samples", False, seen(then(0, 5, 4), flat, flat)),
        Case("recovering", False, seen(then(0, 50_000), flat, f"0+1000x{STEPS}")),
        Case("missing data", False, {}),
    ]


def memory(rule: Labels) -> list[Case]:
    cause, labels = rule["cause"], {"worker": {"worker": "w1"}, "exporter": {"instance": "a"}}
    limit = {"page": 95, "ticket": 80}[rule["severity"]] if cause == "redis" else 90

    def seen(used: str, most: str | None) -> Series:
        about = labels.get(cause, {})
        series = {named(f"tokenpulse_{cause}_memory_bytes", **about): used}
        if most is not None:
            series[named(f"tokenpulse_{cause}_memory_limit_bytes", **about)] = most
        return series

    return [
        Case("just above", True, seen(held(limit + 1), held(100))),
        Case("at the limit", False, seen(held(limit), held(100))),
        Case("no limit", False, seen(held(10**12), None)),
        Case("recovering", False, seen(then(limit + 1, 5), held(100))),
        Case("missing data", False, seen(ended(limit + 1), ended(100))),
    ]
