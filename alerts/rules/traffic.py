"""Rules about requests that need no policy: client errors and unreported tokens.

Pure. They read rolling windows of event time. What is usual is the last 24 hours without the last
hour, as a difference of two published windows:

    24h      |------------------------------------------------|
    1h                                                  |-----|
    usual    |------------------------------------------|
"""

from alerts.promql import any_of, newest, number, total_of
from alerts.rules.model import KEEP_FIRING_S, Alert, Group, Read, dashboard, whom
from alerts.rules.outages import outage_alerts
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    CLIENT_ERRORS_MANY,
    CLIENT_ERRORS_NEARLY_ALL,
    CLIENT_ERRORS_USUAL_BELOW,
    RECENT_MIN_REQUESTS,
    UNREPORTED_BELOW,
    USUAL_KNOWN_SHARE,
    USUAL_MIN_REQUESTS,
)
from slo.policy.units import percent_text

CLIENT_ERRORS_SCOPES = ("model", "region")
_DAY, _HOUR = "24h", "1h"  # windows of the usual
_LABELS = {"derived_from": "state", "route": "sre"}
_SHARE = "{{ $value | humanizePercentage }}"


def traffic_groups() -> tuple[Group, ...]:
    """Return the groups of all such rules."""
    return (
        Group("tokenpulse-outage", outage_alerts()),
        Group(
            "tokenpulse-client-errors",
            (
                _client_errors("page", CLIENT_ERRORS_SCOPES, "5m", for_s=60),
                _client_errors("ticket", CLIENT_ERRORS_SCOPES, "5m", for_s=300),
                # Windows of customers begin at an hour.
                _client_errors("ticket", ("customer",), "1h", for_s=300),
            ),
        ),
        Group("tokenpulse-reporting", (_cached_tokens_unreported(),)),
    )


def _client_errors(severity: str, scopes: tuple[str, ...], window: str, for_s: int) -> Alert:
    """Return the alert on client errors that were few and are most, or nearly all, requests.

    Client errors are in no availability: a model name that a release removed answers 404,
    and every other number stays good.
    """
    above = CLIENT_ERRORS_NEARLY_ALL if severity == "page" else CLIENT_ERRORS_MANY
    by = ("scope", *scopes)

    def requests(window: str) -> str:
        matchers = {"scope": any_of(scopes), "window": any_of((window,))}
        return total_of(newest(catalogue.WINDOW_REQUESTS, matchers, (*by, "outcome")), by)

    def errors(window: str) -> str:
        matchers = {"scope": any_of(scopes), "window": any_of((window,))}
        outcome = {"outcome": any_of(("client_error",))}
        return newest(catalogue.WINDOW_REQUESTS, matchers | outcome, by)

    usual = f"({requests(_DAY)} - {requests(_HOUR)})"
    name = "".join(f"{{{{ with $labels.{one} }}}}{one} {{{{ . }}}}{{{{ end }}}}" for one in scopes)
    return Alert(
        name="TokenpulseClientErrorsJump",
        severity=severity,
        expr=f"{errors(window)} / {requests(window)} > {number(above)}"
        f"\nand ({errors(_DAY)} - {errors(_HOUR)}) / {usual}"
        f" < {number(CLIENT_ERRORS_USUAL_BELOW)}"
        f"\nand {requests(window)} >= {RECENT_MIN_REQUESTS}\nand {usual} >= {USUAL_MIN_REQUESTS}",
        summary=f"{_SHARE} of the requests of {name} are client errors",
        description=f"Over the last {window} {_SHARE} of the requests of {name} were answered with "
        f"a 4xx status; in the day before, it was less than "
        f"{percent_text(CLIENT_ERRORS_USUAL_BELOW)}. Availability does not count client errors, "
        "so it does not show this.",
        value=f"{_SHARE} are client errors",
        target=f"at most {percent_text(above)}",
        for_s=for_s,
        keep_firing_s=KEEP_FIRING_S,
        labels={**_LABELS, "window": window},
        link=dashboard("live", "model", "region"),
        reads=tuple(
            Read(scope, read) for scope in scopes for read in sorted({window, _HOUR, _DAY})
        ),
    )


def _cached_tokens_unreported() -> Alert:
    """Return the alert on a model whose input tokens arrive without their cached part.

    Alerts on the cache hit ratio are silent then, as they need a known ratio.
    """
    by = ("model",)

    def tokens(window: str) -> str:
        matchers = {"scope": any_of(by), "window": any_of((window,))}
        types = {"type": any_of(catalogue.INPUT_TOKEN_TYPES)}
        return total_of(newest(catalogue.WINDOW_TOKENS, matchers | types, (*by, "type")), by)

    def known(window: str) -> str:
        matchers = {"scope": any_of(by), "window": any_of((window,))}
        return newest(catalogue.WINDOW_INPUT_TOKENS, matchers, by)

    def successes(window: str) -> str:
        matchers = {
            "scope": any_of(by),
            "window": any_of((window,)),
            "outcome": any_of(("success",)),
        }
        return newest(catalogue.WINDOW_REQUESTS, matchers, by)

    usual = f"({known(_DAY)} - {known(_HOUR)}) / ({tokens(_DAY)} - {tokens(_HOUR)})"
    return Alert(
        name="TokenpulseCachedTokensUnreported",
        severity="ticket",
        expr=f"{known(_HOUR)} / {tokens(_HOUR)} < {number(UNREPORTED_BELOW)} * {usual}"
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
