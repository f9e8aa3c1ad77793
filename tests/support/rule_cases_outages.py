"""When the rules about outages fire, and under the name of which place."""

from tests.support.rule_cases_intake import intake_explains
from tests.support.rule_cases_pipeline import late_records
from tests.support.rule_series import Case, Labels, Series, ended, held, named, then

Cells = dict[tuple[str, str], tuple[int, int]]  # (model, region) -> failures, requests

# Fleets of 1,000 requests in five minutes for each cell, in which something fails.
HEALTHY: Cells = {(model, region): (0, 1_000) for model in ("l", "s") for region in ("eu", "us")}
EU_IS_DOWN: Cells = HEALTHY | {("l", "eu"): (1_000, 1_000), ("s", "eu"): (1_000, 1_000)}
L_IS_DOWN: Cells = HEALTHY | {("l", "eu"): (1_000, 1_000), ("l", "us"): (1_000, 1_000)}
# eu serves most of the fleet; all of it fails.
LARGE_EU_IS_DOWN: Cells = {
    ("l", "eu"): (3_000, 3_000),
    ("s", "eu"): (3_000, 3_000),
    ("l", "us"): (0, 1_000),
    ("s", "us"): (0, 1_000),
}
# Model l is most of each region; all of it fails.
LARGE_L_IS_DOWN: Cells = {
    ("l", "eu"): (3_000, 3_000),
    ("s", "eu"): (0, 1_000),
    ("l", "us"): (3_000, 3_000),
    ("s", "us"): (0, 1_000),
}
NINE: Cells = {(model, region): (0, 1_000) for model in "lms" for region in ("ap", "eu", "us")}
ALL_FAIL: Cells = dict.fromkeys(NINE, (1_000, 1_000))
EU_AND_US_ARE_DOWN: Cells = ALL_FAIL | {(model, "ap"): (0, 1_000) for model in "lms"}
L_AND_S_ARE_DOWN: Cells = ALL_FAIL | {("m", region): (0, 1_000) for region in ("ap", "eu", "us")}
EU_AND_L_ARE_DOWN: Cells = ALL_FAIL | {
    (model, region): (0, 1_000) for model in "ms" for region in ("ap", "us")
}
# Six of ten, and by chance two regions a little more.
MOST_FAIL: Cells = {
    (model, region): (90 if region == "ap" else 800, 150 if region == "ap" else 1_000)
    for model, region in NINE
}
# Five regions of the same size, of which three fail by a little more than half.
THREE_ARE_DOWN: Cells = {
    (model, region): (510 if region in ("ap", "eu", "us") else 0, 1_000)
    for model in "lms"
    for region in ("af", "ap", "eu", "sa", "us")
}
# As small as they are, they have less than half of all requests.
THREE_SMALL_ARE_DOWN: Cells = THREE_ARE_DOWN | {
    (model, region): (0, 2_100) for model in "lms" for region in ("af", "sa")
}
ALL_IS_DOWN: Cells = {cell: (total, total) for cell, (_, total) in HEALTHY.items()}
ONLY_REGION: Cells = {("l", "eu"): (1_000, 1_000), ("s", "eu"): (500, 500)}
ONLY_CELL: Cells = {("l", "eu"): (1_000, 1_000), ("s", "us"): (0, 1_500)}
ONE_MODEL: Cells = {("l", "eu"): (3_000, 3_000), ("l", "us"): (0, 1_000)}


def seen(cells: Cells) -> Series:
    """Return the gauges of availability of these cells, and of all sums over them."""
    sums: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for (model, region), (bad, total) in cells.items():
        for labels in (
            {"scope": "fleet"},
            {"scope": "region", "region": region},
            {"scope": "model", "model": model},
            {"scope": "series", "model": model, "region": region},
        ):
            counts = sums.setdefault(tuple(labels.items()), [0, 0])
            counts[0] += bad
            counts[1] += total
    series = {}
    for key, (bad, total) in sums.items():
        for window in ("1m", "5m"):
            labels = {**dict(key), "window": window}
            ratio = named("tokenpulse_availability_ratio", **labels)
            series[ratio] = held(1 - bad / total)
            series[named("tokenpulse_window_eligible_requests", **labels)] = held(total)
    return series


def outage(rule: Labels) -> list[Case]:
    scope = rule["scope"]
    if scope == "model_region":
        return cell()
    place: Labels = {
        "fleet": {},
        "region": {"region": "eu"},
        "model": {"model": "l"},
    }[scope]

    def alone(ratio: str, eligible: str, scope: str = scope) -> Series:
        which = {"scope": scope, "window": "1m", **place}
        return {
            named("tokenpulse_availability_ratio", **which): ratio,
            named("tokenpulse_window_eligible_requests", **which): eligible,
        }

    return [
        Case("it is down", True, alone(held(0.49), held(20))),
        Case("just half succeed", False, alone(held(0.5), held(5_000))),
        Case("too few samples", False, alone(held(0), held(19))),
        Case("recovering", False, alone(then(0, 0.6), held(5_000))),
        Case("missing data", False, alone(ended(0), ended(5_000))),
        Case("a customer is no place", False, alone(held(0), held(99), "customer")),
        Case("all is well", False, seen(HEALTHY)),
        *(Case(why, scope in fires, seen(cells)) for why, fires, cells in FAULTS),
    ]


FAULTS: list[tuple[str, tuple[str, ...], Cells]] = [
    ("eu is down, and its models are at half", ("region",), EU_IS_DOWN),
    ("model l is down, and the regions are at half", ("model",), L_IS_DOWN),
    ("eu is down, which is most of the fleet and of each model", ("region",), LARGE_EU_IS_DOWN),
    ("model l is down, which is most of the fleet and each region", ("model",), LARGE_L_IS_DOWN),
    ("eu and us are down, and ap is well", ("region",), EU_AND_US_ARE_DOWN),
    ("models l and s are down, and m is well", ("model",), L_AND_S_ARE_DOWN),
    ("eu and model l are down, all else is well", ("region", "model"), EU_AND_L_ARE_DOWN),
    # Alertmanager silences the smaller ones.
    ("three regions with most requests are down", ("fleet", "region"), THREE_ARE_DOWN),
    ("three smaller regions are down", ("region",), THREE_SMALL_ARE_DOWN),
    ("most fail in all places", ("fleet", "region", "model"), MOST_FAIL),
    ("all is down", ("fleet", "region", "model"), ALL_IS_DOWN),
    ("all is down, and there is one region", ("fleet", "region"), ONLY_REGION),
    ("a model and a region that have only each other", ("model",), ONLY_CELL),
    ("there is one model, and its larger region is down", ("region",), ONE_MODEL),
]


def cell() -> list[Case]:
    many: Cells = {(f"m{at}", region): (0, 2_000) for at in range(6) for region in ("eu", "us")}

    def one(bad: int, total: int) -> Series:
        return seen({**many, ("m3", "eu"): (bad, total)})

    dead, half = one(2_000, 2_000), one(1_700, 2_000)
    over = {name: value for name, value in seen(many).items() if 'window="1m"' in name}
    return [
        Case("one model fails in one region of a large fleet", True, dead),
        Case("more than half of just enough requests", True, one(51, 100)),
        Case("exactly half", False, one(50, 100)),
        Case("too few samples", False, one(99, 99)),
        Case("it failed for the most part, and fails no more", False, {**half, **over}),
        Case("it still fails, and its requests stay away", True, {**dead, **over}),
        Case("all is well", False, seen(many)),
        Case(
            "missing data",
            False,
            {key: ended(value.partition("+")[0]) for key, value in dead.items()},
        ),
    ]


def explains(rule: Labels) -> list[Case]:
    if rule["explains"] == "late":
        return late_records()
    if rule["explains"] in ("intake", "sources"):
        return intake_explains(rule)
    if rule["explains"] == "volume":
        return [
            Case("all fails", True, seen(ALL_IS_DOWN)),
            Case("a quarter fails", False, seen({**HEALTHY, ("l", "eu"): (1_000, 1_000)})),
            Case("all is well", False, seen(HEALTHY)),
            Case("missing data", False, {}),
        ]
    spread = dict.fromkeys(HEALTHY, (50, 1_000))
    both = {(model, region): (50, 1_000) for model in "lms" for region in ("ap", "eu", "us")}
    both["l", "eu"] = (1_000, 1_000)
    return [
        Case("a region is down", True, seen(EU_IS_DOWN)),
        Case("a model is down", True, seen(L_IS_DOWN)),
        Case("one cell is down", True, seen({**HEALTHY, ("l", "eu"): (1_000, 1_000)})),
        Case("5 % fail in all places", False, seen(spread)),
        Case("a cell is down, and as much fails elsewhere", False, seen(both)),
        Case("all is well", False, seen(HEALTHY)),
        Case("missing data", False, {}),
    ]


def slow_cell(rule: Labels) -> list[Case]:
    """One model in one region is slow: requests in time of requests, for each cell."""
    measure, target = ("ttft", "0.3") if "ttft" in rule["objective"] else ("tpot", "0.05")
    if "duration" in rule["objective"]:
        measure, target = "duration", "30"
    if "first-visible" in rule["objective"]:
        measure, target = "first_visible", "5"
    all_fast: Cells = dict.fromkeys(HEALTHY, (990, 1000))

    def seen_within(cells: Cells) -> Series:
        series = {}
        for (model, region), (good, total) in cells.items():
            which = {"scope": "series", "window": "5m", "model": model, "region": region}
            series[named(f"tokenpulse_{measure}_samples", **which)] = held(total)
            ratio = named(
                "tokenpulse_within_target_ratio",
                **which,
                latency=measure,
                target_seconds=target,
            )
            series[ratio] = held(good / total)
        return series

    slow = {**all_fast, ("l", "eu"): (499, 1_000)}
    return [
        Case("most requests of one model in one region", True, seen_within(slow)),
        Case("just enough samples", True, seen_within({**all_fast, ("l", "eu"): (49, 100)})),
        Case("half of them", False, seen_within({**all_fast, ("l", "eu"): (500, 1_000)})),
        Case("too few samples", False, seen_within({**all_fast, ("l", "eu"): (0, 99)})),
        Case(
            "the model is slow elsewhere too",
            False,
            seen_within({**slow, ("l", "us"): (700, 1_000)}),
        ),
        Case(
            "the region is slow for others too",
            False,
            seen_within({**slow, ("s", "eu"): (700, 1_000)}),
        ),
        Case(
            "a model in only one region",
            False,
            seen_within({("l", "eu"): (0, 1_000), ("s", "eu"): (990, 1_000)}),
        ),
        Case("all is well", False, seen_within(all_fast)),
        Case(
            "missing data",
            False,
            {key: ended(value.partition("+")[0]) for key, value in seen_within(slow).items()},
        ),
    ]
