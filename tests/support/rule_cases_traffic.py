"""When rules about requests that need no policy fire, and when not."""

from tests.support.rule_series import Case, Labels, Series, ended, held, named


def stopped(series: Series) -> Series:
    """The same series, which end."""
    return {key: ended(value.partition("+")[0]) for key, value in series.items()}


def rate_limited(rule: Labels) -> list[Case]:
    """Cases as of client errors; a page also needs fewer successes than usual."""
    cases = client_errors(rule, "rate_limited")
    if rule["severity"] == "ticket":
        return cases

    def seen(now: int, limited: int, usual: int) -> Series:
        counts = {"5m": (now, limited), "1h": (500, 0), "24h": (500 + usual, 0)}
        return {
            named(
                "tokenpulse_window_requests",
                scope="model",
                model="large",
                window=window,
                outcome=outcome,
            ): held(count)
            for window, both in counts.items()
            for outcome, count in zip(("success", "rate_limited"), both, strict=True)
        }

    # 276 times five minutes are the day without its last hour; half of them are usual.
    return [
        *cases,
        Case("a flood is limited, and the others are served", False, seen(100, 9_000, 27_600)),
        Case("just half succeed of the usual", False, seen(50, 9_000, 27_600)),
        Case("the others are limited too", True, seen(49, 9_000, 27_600)),
    ]


def client_errors(rule: Labels, denied: str = "client_error") -> list[Case]:
    """Cases of a page (90 %) or a ticket (50 %), by model, or by customer over an hour."""
    is_page = rule["severity"] == "page"

    def seen(
        now: tuple[int, int],
        before: tuple[int, int] = (50, 1_000),
        which: Labels | None = None,
    ) -> Series:
        """`now`, `before`: client errors of requests, in the window and in the day without the
        last hour; that hour has 500 client errors of 500 more requests."""
        which = which or {"scope": "model", "model": "large"}
        if denied == "rate_limited" and before[1] >= 1_000:
            # So many successes before that those of five minutes are a loss.
            before = before[0] * 100, before[1] * 100
        last = now if which["scope"] == "customer" else (500, 500)
        day = [before[at] + last[at] for at in (0, 1)]
        series = {}
        for window, (errors, requests) in {"1h": last, "24h": day, "5m": now}.items():
            for outcome, count in (
                (denied, errors),
                ("success", requests - errors),
                ("timeout", 0),
            ):
                gauge = named("tokenpulse_window_requests", window=window, outcome=outcome, **which)
                series[gauge] = held(count)
        return series

    customer = {"scope": "customer", "customer": "Acme, Inc.", "segment": "enterprise"}
    if rule["window"] == "1h":
        return [
            Case("most of an hour", True, seen((51, 100), which=customer)),
            Case("exactly half", False, seen((50, 100), which=customer)),
            Case("no more than usual", False, seen((51, 100), (250, 1_000), which=customer)),
            Case("too few samples", False, seen((19, 19), which=customer)),
            Case("a model has a rule of its own", False, seen((99, 100))),
            Case("missing data", False, stopped(seen((99, 100), which=customer))),
        ]
    many, limit = (91, 90) if is_page else (51, 50)
    eu = {"scope": "region", "region": "eu"}
    return [
        Case("a model answers 4xx", True, seen((many, 100))),
        Case("a region answers 4xx", True, seen((20, 20), which=eu)),
        Case("usual errors are just few", True, seen((many, 100), (249, 1_000))),
        Case("exactly at the limit", False, seen((limit, 100))),
        Case("usual errors are many", False, seen((100, 100), (250, 1_000))),
        Case("too few samples", False, seen((19, 19))),
        Case("too few samples of the usual", False, seen((100, 100), (0, 99))),
        Case("a new model has no usual share", False, seen((100, 100), (0, 0))),
        Case("a customer has a rule of its own", False, seen((100, 100), which=customer)),
        Case("missing data", False, stopped(seen((100, 100)))),
        Case("nothing known", False, {}),
    ]


def unreported(_: Labels) -> list[Case]:
    def seen(
        now: tuple[int, int], before: tuple[int, int], successes: tuple[int, int] = (20, 100)
    ) -> Series:
        """`now`, `before`: input tokens with a known cached part, and all, in the last hour and in
        the day without it."""
        which = {"scope": "model", "model": "large"}
        day = [before[at] + now[at] for at in (0, 1)]
        series = {}
        for window, (known, every), count in (
            ("1h", now, successes[0]),
            ("24h", day, sum(successes)),
        ):
            gauge = named("tokenpulse_window_requests", window=window, outcome="success", **which)
            series[gauge] = held(count)
            gauge = named("tokenpulse_window_input_tokens", window=window, **which)
            series[gauge] = held(known)
            for kind, tokens in (
                ("cached_input", known // 4),
                ("uncached_input", known - known // 4),
                ("unknown_input", every - known),
                ("output", 7 * every),  # no input
            ):
                gauge = named("tokenpulse_window_tokens", window=window, type=kind, **which)
                series[gauge] = held(tokens)
        return series

    usual = (90_000, 100_000)
    fell = seen((4_000, 10_000), usual)
    return [
        Case("known for less than half of the usual share", True, fell),
        Case("not known at all", True, seen((0, 10_000), usual)),
        Case("a small usual share", True, seen((0, 10_000), (10_000, 100_000))),
        Case("exactly half of the usual share", False, seen((4_500, 10_000), usual)),
        Case("known as usual", False, seen((9_000, 10_000), usual)),
        Case("never reported", False, seen((0, 10_000), (0, 100_000))),
        Case("a source too small to matter", False, seen((0, 10_000), (9_999, 100_000))),
        Case("too few samples", False, seen((0, 10_000), usual, (19, 100))),
        Case("too few samples of the usual", False, seen((0, 10_000), usual, (20, 99))),
        Case("no input tokens at all", False, seen((0, 0), usual)),
        Case("missing data", False, stopped(fell)),
        Case("nothing known", False, {}),
    ]


def _customers(hour: dict[str, int], day: dict[str, int]) -> Series:
    """Requests of each customer in the last hour, and in the day with it; and those of the fleet.

    Who has none in a window has no series of it.
    """
    series = {}
    for window, counts in {"1h": hour, "24h": day}.items():
        fleet = named("tokenpulse_window_requests", scope="fleet", window=window, outcome="success")
        series[fleet] = held(sum(counts.values()))
        for customer, count in counts.items():
            about = {"scope": "customer", "customer": customer, "segment": "enterprise"}
            gauge = named("tokenpulse_window_requests", **about, window=window, outcome="success")
            series[gauge] = held(count)
    return series


def flood(_: Labels) -> list[Case]:
    def seen(acme: int, others: int = 9_000, usual: int = 1_000, hours: int = 23) -> Series:
        day = {"Acme": acme + usual * hours, "others": others + 9_000 * hours}
        return _customers({"Acme": acme, "others": others}, day)

    steady = seen(1_000)
    return [
        Case("ten times as many", True, seen(10_000)),
        Case("just over five times as many", True, seen(5_001)),
        Case("five times as many", False, seen(5_000)),
        Case("just over a tenth of all", True, seen(1_001, usual=10)),
        Case("no tenth of all", False, seen(1_000, usual=10)),
        Case("too few samples", False, seen(999, others=900, usual=1)),
        Case("the others sleep, and it works on", False, seen(1_900, others=900)),
        Case("a new customer", True, seen(5_000, usual=0)),
        Case("the first hours have no usual day", False, seen(5_000, usual=0, hours=0)),
        Case("all is well", False, steady),
        Case("missing data", False, stopped(seen(10_000))),
        Case("nothing known", False, {}),
    ]


def silent(_: Labels) -> list[Case]:
    def seen(acme: int, others: int = 9_000, day: int = 24_200) -> Series:
        hour = {"others": others} | ({"Acme": acme} if acme else {})
        return _customers(hour, {"Acme": day, "others": 216_000})

    return [
        Case("no request", True, seen(0)),
        Case("hardly any: 9 of about 900", True, seen(9)),
        Case("some", False, seen(20)),
        Case("too few samples: no tenth of all", False, seen(0, day=24_000)),
        Case("too few samples: of the hour", False, seen(0, others=900)),
        Case("all customers are silent", False, seen(0, others=0)),
        Case(
            "the first hours have no usual day",
            False,
            _customers({"others": 9_000}, {"others": 9_500, "Acme": 5_000}),
        ),
        Case("it was never there", False, _customers({"others": 9_000}, {"others": 216_000})),
        Case("missing data", False, stopped(seen(0))),
        Case("nothing known", False, {}),
    ]
