"""When rules about sources of the intake fire, and when not."""

from collections.abc import Mapping

from tests.support.rule_cases_pipeline import NOW, ago
from tests.support.rule_series import Case, Labels, Series, ended, held, named, then

GATEWAY = {"source": "gateway"}
DAY_S = 86_400
PREFIX = "tokenpulse_source_"


def gone_silent(_: Labels) -> list[Case]:
    def seen(expected: str | None, last: str) -> Series:
        found = {named(PREFIX + "last_event_timestamp_seconds", **GATEWAY): last}
        if expected is not None:
            found[named(PREFIX + "expected_events", **GATEWAY)] = expected
        return found

    return [
        Case("silent, and usually it sends", True, seen(held(500), ago(400))),
        Case("silent, as at this time of other days", False, seen(held(0), ago(400))),
        Case("a small source", False, seen(held(19), ago(4_000))),
        Case("a large source, silent for a moment", False, seen(held(900), ago(200))),
        Case("recovering", False, seen(then(500, 0), NOW)),
        Case("not known for an hour", False, seen(None, ago(4_000))),
        Case("missing data: it never sent", False, {}),
    ]


def in_windows(counts: Mapping[str, tuple[str, str]]) -> Series:
    """Series of each kind in the last hour and day."""
    return {
        named(PREFIX + kind, **GATEWAY, window=window): values
        for kind, of_windows in counts.items()
        for window, values in zip(("1h", "24h"), of_windows, strict=True)
    }


def usage_missing(_: Labels) -> list[Case]:
    def seen(hour: tuple[str, str], day: tuple[str, str]) -> Series:
        return in_windows(
            {
                "successes": (hour[0], day[0]),
                "successes_with_usage": (hour[1], day[1]),
            }
        )

    usual = held(24_000), held(23_000)
    return [
        Case("no usage any more", True, seen((held(1_000), held(0)), usual)),
        Case("a third is left", True, seen((held(1_000), held(330)), usual)),
        Case("as usual", False, seen((held(1_000), held(960)), usual)),
        Case("never had usage", False, seen((held(1_000), held(0)), (held(24_000), held(0)))),
        Case("a handful of answers", False, seen((held(19), held(0)), usual)),
        Case("no usual day yet", False, seen((held(50), held(0)), (held(140), held(90)))),
        Case("recovering", False, seen((held(1_000), then(0, 990)), usual)),
        Case("missing data", False, {}),
    ]


def sampled(_: Labels) -> list[Case]:
    def seen(of_a_sample: str, events: str = held(1_000)) -> Series:
        return in_windows(
            {"sampled_events": (of_a_sample, held(5)), "events": (events, held(9_000))}
        )

    return [
        Case("one of a sample", True, seen(held(1))),
        Case("whole traces, today", False, seen(held(0))),
        Case("no events", False, seen(held(0), held(0))),
        Case("recovering", False, seen(then(9, 0))),
        Case("missing data", False, {}),
    ]


def new_scope(_: Labels) -> list[Case]:
    scope = {**GATEWAY, "span_scope": "genai.v3"}

    def seen(scope_since: str, since: str | None = held(-8 * DAY_S)) -> Series:
        found = {named(PREFIX + "unread_scope_since_timestamp_seconds", **scope): scope_since}
        if since is not None:
            found[named(PREFIX + "since_timestamp_seconds", **GATEWAY)] = since
        return found

    return [
        Case("first seen an hour ago", True, seen(held(-3_600))),
        Case("known since yesterday", False, seen(held(-DAY_S))),
        Case("the first day of the source", False, seen(held(-3_600), held(-DAY_S + 3_600))),
        Case("recovering: its slots were dropped", False, seen(ended(-3_600))),
        Case("missing data", False, {}),
    ]
