"""Rules about requests that need no policy: client errors, rate limits and unreported tokens.

Pure. They read rolling windows of event time. What is usual is the last 24 hours without the last
hour, as a difference of two published windows:

    24h      |------------------------------------------------|
    1h                                                  |-----|
    usual    |------------------------------------------|
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from alerts.promql import any_of, newest, number, total_of
from alerts.rules.customers import customer_alerts
from alerts.rules.model import (
    KEEP_FIRING_S,
    LIVE,
    REQUESTS_OF_PLACE,
    Alert,
    Group,
    Read,
    dashboard,
    traffic_share,
    whom,
)
from alerts.rules.outages import outage_alerts
from alerts.rules.place_counts import place_records
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    CLIENT_ERRORS_MANY,
    CLIENT_ERRORS_NEARLY_ALL,
    CLIENT_ERRORS_USUAL_BELOW,
    RECENT_MIN_REQUESTS,
    SUCCESSES_FELL_BELOW,
    UNREPORTED_BELOW,
    USUAL_KNOWN_SHARE,
    USUAL_MIN_REQUESTS,
)
from slo.policy.units import percent_text
from streams.state.windows import ROLLING_S

JUMP_SCOPES = ("model", "region")
_DAY, _HOUR = "24h", "1h"  # windows of the usual
_USUAL_S = ROLLING_S[_DAY] - ROLLING_S[_HOUR]
_LABELS = {"derived_from": "state", "route": "sre"}
_SHARE = "{{ $value | humanizePercentage }}"


def traffic_groups() -> tuple[Group, ...]:
    """Return the groups of all such rules."""
    return (
        Group("tokenpulse-outage", outage_alerts(), place_records()),
        *(Group(jump.group, tuple(_jump_alerts(jump))) for jump in (CLIENT_ERRORS, RATE_LIMITED)),
        Group("tokenpulse-customers", customer_alerts()),
        Group("tokenpulse-reporting", (_missing_reports_alert(),)),
    )


@dataclass(frozen=True, slots=True)
class _Jump:
    """An outcome that is in no availability, and the texts about it.

    A model name that a release removed answers 404, a wrong limit answers 429, and every other
    number stays good.
    """

    alert: str
    group: str
    outcome: str
    are: str  # completes `90% of the requests`
    answered: str
    requests: str
    needs_loss: bool  # a page needs fewer successes than usual too


CLIENT_ERRORS = _Jump(
    "TokenpulseClientErrorsJump",
    "tokenpulse-client-errors",
    "client_error",
    "are client errors",
    "were answered with a 4xx status",
    "client errors",
    needs_loss=False,
)
# One customer that sends far too much makes most requests rate-limited while the others are served
# as usual, so a page needs lost successes too.
RATE_LIMITED = _Jump(
    "TokenpulseRateLimitedJump",
    "tokenpulse-rate-limits",
    "rate_limited",
    "are rate-limited",
    "were answered with status 429",
    "rate-limited requests",
    needs_loss=True,
)


def _jump_alerts(jump: _Jump) -> Iterator[Alert]:
    yield _jump_alert(jump, "page", JUMP_SCOPES, "5m", for_s=60)
    yield _jump_alert(jump, "ticket", JUMP_SCOPES, "5m", for_s=300)
    # Windows of customers begin at an hour.
    yield _jump_alert(jump, "ticket", ("customer",), "1h", for_s=300)


def _jump_alert(
    jump: _Jump, severity: str, scopes: tuple[str, ...], window: str, for_s: int
) -> Alert:
    """Return the alert on an outcome that was rare and is that of most, or nearly all, requests."""
    # Availability does not fall, so only nearly all requests are as bad as an outage.
    above = CLIENT_ERRORS_NEARLY_ALL if severity == "page" else CLIENT_ERRORS_MANY
    by = ("scope", *scopes)

    def requests(window: str) -> str:
        matchers = {"scope": any_of(scopes), "window": any_of((window,))}
        return total_of(newest(catalogue.WINDOW_REQUESTS, matchers, (*by, "outcome")), by)

    def of_outcome(outcome: str, window: str) -> str:
        matchers = {"scope": any_of(scopes), "window": any_of((window,))}
        return newest(catalogue.WINDOW_REQUESTS, matchers | {"outcome": any_of((outcome,))}, by)

    def errors(window: str) -> str:
        return of_outcome(jump.outcome, window)

    loss = ""
    if jump.needs_loss and severity == "page":
        share = SUCCESSES_FELL_BELOW * Fraction(ROLLING_S[window], _USUAL_S)
        before = f"({of_outcome('success', _DAY)} - {of_outcome('success', _HOUR)})"
        # Without any success there is no series of it.
        loss = f"\nunless {of_outcome('success', window)} >= {number(share)} * {before}"
    usual = f"({requests(_DAY)} - {requests(_HOUR)})"
    name = "".join(f"{{{{ with $labels.{one} }}}}{one} {{{{ . }}}}{{{{ end }}}}" for one in scopes)
    return Alert(
        name=jump.alert,
        severity=severity,
        expr=f"{errors(window)} / {requests(window)} > {number(above)}"
        f"\nand ({errors(_DAY)} - {errors(_HOUR)}) / {usual}"
        f" < {number(CLIENT_ERRORS_USUAL_BELOW)}"
        f"\nand {requests(window)} >= {RECENT_MIN_REQUESTS}\nand {usual} >= {USUAL_MIN_REQUESTS}"
        + loss,
        summary=f"{_SHARE} of the requests of {name} {jump.are}",
        description=f"Over the last {window} {_SHARE} of the requests of {name} {jump.answered}; "
        f"in the day before, it was less than {percent_text(CLIENT_ERRORS_USUAL_BELOW)}. "
        f"Availability does not count {jump.requests}, so it does not show this.",
        value=f"{_SHARE} {jump.are}",
        affected=traffic_share(window, *scopes),
        target=f"at most {percent_text(above)}",
        for_s=for_s,
        keep_firing_s=KEEP_FIRING_S,
        labels={**_LABELS, "window": window},
        # The board has no customers among its variables.
        link=LIVE if scopes == ("customer",) else REQUESTS_OF_PLACE,
        reads=tuple(
            Read(scope, read) for scope in scopes for read in sorted({window, _HOUR, _DAY})
        ),
    )


def _missing_reports_alert() -> Alert:
    """Return the alert on a model whose input tokens arrive without their cached part.

    Alerts on the cache hit ratio are silent then, as they need a known ratio.
    """
    by = ("model",)

    def tokens(window: str) -> str:
        matchers = {"scope": any_of(by), "window": any_of((window,))}
        types = {"type": any_of(catalogue.INPUT_TOKEN_TYPES)}
        return total_of(newest(catalogue.WINDOW_TOKENS, matchers | types, (*by, "type")), by)

    def known_tokens(window: str) -> str:
        matchers = {"scope": any_of(by), "window": any_of((window,))}
        return newest(catalogue.WINDOW_INPUT_TOKENS, matchers, by)

    def successes(window: str) -> str:
        matchers = {
            "scope": any_of(by),
            "window": any_of((window,)),
            # Only answers have input tokens to report.
            "outcome": any_of(("success",)),
        }
        return newest(catalogue.WINDOW_REQUESTS, matchers, by)

    usual = f"({known_tokens(_DAY)} - {known_tokens(_HOUR)}) / ({tokens(_DAY)} - {tokens(_HOUR)})"
    return Alert(
        name="TokenpulseCachedTokensUnreported",
        severity="ticket",
        expr=f"{known_tokens(_HOUR)} / {tokens(_HOUR)} < {number(UNREPORTED_BELOW)} * {usual}"
        f"\nand {usual} >= {number(USUAL_KNOWN_SHARE)}"
        f"\nand {successes(_HOUR)} >= {RECENT_MIN_REQUESTS}"
        f"\nand {successes(_DAY)} - {successes(_HOUR)} >= {USUAL_MIN_REQUESTS}",
        summary=f"Cached tokens are no longer reported{whom(by)}: known for {_SHARE} of the input",
        description="A source stopped sending cached_input_tokens. Over the last hour they are "
        f"known for {_SHARE} of the input tokens of model {{{{ $labels.model }}}}, less than half "
        "of the share in the day before. The cache itself may work as before: the hit ratio is "
        "computed over the known part only, and alerts on it need half of the input to be known.",
        value=f"known for {_SHARE} of the input tokens",
        target="at least half of the share in the day before",
        for_s=300,
        keep_firing_s=KEEP_FIRING_S,
        labels=_LABELS,
        link=dashboard("cache", "model"),
        reads=(Read("model", _HOUR), Read("model", _DAY)),
    )
