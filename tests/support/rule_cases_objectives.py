"""When rules of objectives fire, and when not, said again by other means."""

from collections.abc import Callable

from tests.support.rule_series import Case, Labels, Series, ended, held, named, then

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
    ("openrouter", "uptime"): 0.95,
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

    def young(rate: float, begin_s: int) -> Series:
        since = {"tokenpulse_state_since_timestamp_seconds": held(begin_s)}
        return {**seen(held(rate), held(rate), 10**9, 10**9), **since}

    # The clock of promtool begins at 0, and a case ends after 40 minutes.
    hours = {"1h": 1, "6h": 6, "1d": 24, "3d": 72}[long]
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
        Case("the data is younger than the window", False, young(fast, 0)),
        Case("young data fails as much as a whole window may", True, young(1.6 * hours * fast, 0)),
        Case("the data is older than the window", True, young(fast, -3_600 * hours)),
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
    name = rule["objective"].partition("-of-all")[0].partition("-by-")[0].partition("-p95")[0]
    name = name.replace("-", "_")
    limit_s = {"ttft": 0.3, "tpot": 0.05, "duration": 30, "first_visible": 5}[name]
    if (name, rule["severity"]) == ("ttft", "ticket"):
        limit_s = 0.25
    level = {"quantile": "0.99" if name == "duration" else "0.95"}
    which = {"scope": "fleet"}
    if rule["objective"] == "ttft-by-region":
        which = {"scope": "region", "region": "eu"}

    def seen(five: str, one: str, samples: str, within: str | None = held(0.5)) -> Series:
        """`within`: share of the samples that are within the limit, if that is counted."""
        seconds = f"tokenpulse_{name}_seconds"
        counted = {"latency": name, "target_seconds": f"{limit_s:g}", "window": "5m"}
        good = {named("tokenpulse_within_target_ratio", **counted, **which): within or ""}
        return {
            **(good if within else {}),
            named(seconds, window="5m", **level, **which): five,
            named(seconds, window="1m", **level, **which): one,
            named(f"tokenpulse_{name}_samples", window="5m", **which): samples,
            # Not what the objective is about:
            named(seconds, window="5m", scope="channel", **level): held(99),
            named(seconds, window="1m", scope="channel", **level): held(99),
        }

    over, under = limit_s * 1.01, limit_s * 0.99
    enough = 1_000 if name == "duration" else 200  # of which 1 %, or 5 %, are ten
    return [
        Case("over the limit", True, seen(held(over), held(over), held(20))),
        Case("a lull of a minute", True, seen(held(over), held(under), held(20))),
        Case("exactly at the limit", False, seen(held(limit_s), held(limit_s), held(10_000))),
        Case("below target", False, seen(held(under), held(under), held(10_000))),
        Case("too few samples", False, seen(held(over), held(over), held(19), held(0.2))),
        Case("ten are late", True, seen(held(over), held(over), held(80), held(0.875))),
        Case("nine are late", False, seen(held(over), held(over), held(80), held(0.8875))),
        Case("ten must be late", True, seen(held(over), held(over), held(enough), None)),
        Case("fewer may be late", False, seen(held(over), held(over), held(enough - 1), None)),
        Case("recovering", False, seen(held(over), then(over, limit_s / 2), held(10_000))),
        Case("traffic has stopped", False, seen(held(over), ended(over), held(10_000))),
        Case("missing data", False, seen(ended(over), ended(over), ended(10_000))),
        Case("nothing known", False, {}),
    ]


def within_target(rule: Labels) -> list[Case]:
    """Two channels of one model: 188 of 200 within are too few, 190 are the P95 of the target."""

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
        Case("94 of 100 within", False, seen((1, 60), (0.85, 40))),
        Case("188 of 200 within", True, seen((1, 120), (0.85, 80))),
        Case("exactly 190 of 200 within", False, seen((1, 120), (0.875, 80))),
        Case("90 of 100 within, so ten are late", True, seen((1, 60), (0.75, 40))),
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

    def seen(
        hour: str, minutes: str, tokens: str, known: tuple[float, float] = (0.5, 0.5)
    ) -> Series:
        """`known`: share of the input whose cached part is known, in the hour and in minutes."""
        ratio, labels = "tokenpulse_known_ratio", {"measure": "cached_input", **which}
        return {
            named(ratio, window="1h", **labels): held(known[0]),
            named(ratio, window="5m", **labels): held(known[1]),
            named(ratio, window="1h", **{**labels, "measure": "tokens"}): held(1),
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
        Case("known for too little", False, seen(held(low), held(low), many, (0.49, 1))),
        Case("no longer reported", False, seen(held(low), held(low), many, (1, 0.49))),
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
        unknown: int = 0,
    ) -> Series:
        found = {}
        for at, model in enumerate(("large", "v1.5", "v1x5")):
            for window, text in (("1h", held), ("5m", minutes)):
                which = {"scope": "model", "window": window, "model": model}
                tokens = named("tokenpulse_window_tokens", type="cached_input", **which)
                found[tokens] = text(cached[at])
                for kind, count in (("uncached", inputs[at] - cached[at]), ("unknown", unknown)):
                    tokens = named("tokenpulse_window_tokens", type=f"{kind}_input", **which)
                    found[tokens] = text(count)
                found[named("tokenpulse_window_input_tokens", **which)] = text(inputs[at])
        return found

    million = 10**6
    return [
        Case("together below", True, seen((2 * million, 90, 9), (8 * million, 100, 9))),
        Case(
            "traffic has stopped", False, seen((2 * million, 90, 9), (8 * million, 100, 9), ended)
        ),
        Case("half is known", True, seen((1, 9, 9), (400_000, 400_000, 9), held, 400_000)),
        Case("known for too little", False, seen((1, 9, 9), (400_000, 400_000, 9), held, 400_001)),
        Case("together above", False, seen((4 * million, 0, 0), (8 * million, 100, million))),
        Case("too few samples", False, seen((0, 0, 0), (50_000, 49_999, million))),
        Case("missing data", False, {}),
    ]


def token_volume(rule: Labels) -> list[Case]:
    which, window, times = {"scope": "fleet"}, "5m", 12
    if rule["objective"] == "volume-of-large":
        which, window, times = {"scope": "model", "model": "large"}, "1m", 60

    def seen(
        now: str | None, hour: int, requests: str = held(10**6), minute: str | None = None
    ) -> Series:
        """`minute`: tokens of the last minute, of each type; none if the window is gone."""
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
        if minute is not None:
            for kind in ("output", "cached_input"):
                found[named("tokenpulse_window_tokens", window="1m", type=kind, **which)] = minute
        return found

    usual = 1_000_000
    hour = usual * times
    few = held(usual / 5)
    minutes = [
        Case("a lull", True, seen(few, hour, minute=held(0.36 * usual / 5))),
        Case("requests arrive again", False, seen(few, hour, minute=held(0.37 * usual / 5))),
    ]
    return [
        Case("a fifth of the usual volume", True, seen(held(usual / 5), hour)),
        Case("nothing at all comes, so the window is gone", True, seen(None, hour)),
        Case("it ended", True, seen(ended(usual), hour)),
        *(minutes if window == "5m" else ()),
        Case("half of the usual volume", False, seen(held(usual / 2), hour)),
        Case("too few samples", False, seen(None, hour, held(50 * times - 1))),
        Case("too few tokens", False, seen(None, 49_999)),
        Case("recovering", False, seen(then(0, usual / 2), hour)),
        Case("missing data", False, {}),
    ]
