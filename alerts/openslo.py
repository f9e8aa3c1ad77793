"""OpenSLO v1 files as policies, as far as they map.

Pure: text and plain data in, plain data out. OpenSLO does not define queries. This module reads
Prometheus queries of Tokenpulse's metrics, as these define exactly which requests count. Any other
SLO is reported and left out: a guess would be a wrong contract.

    ratioMetric of                     Occurrences     Timeslices         RatioTimeslices
    tokenpulse_requests_total          request_ratio   minute_verdicts    slice_ratio_mean
    tokenpulse_latency_..._total       latency_ratio   slice_percentile
    thresholdMetric of
    tokenpulse_..._seconds                         slice_percentile
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple

from exporters.catalogue.latencies import WINDOW_QUANTILES
from exporters.catalogue.requests import MEASURED_TOTAL, REQUESTS_TOTAL, WITHIN_TARGET_TOTAL
from exporters.catalogue.spec import SCOPE_LABELS, SERIES_LABELS
from slo.policy.units import latency_text, percent_text
from streams.events.fields import OUTCOMES
from streams.state.windows import ROLLING_S

API_VERSION = "openslo/v1"
_NAME_LENGTH = 63
# One selector below sum, rate and increase, which change neither the requests nor their ratio.
# Arithmetic, `offset` or a second metric do not match, so such queries are never half understood.
_QUERY = re.compile(
    r"\s*(sum\s*\(\s*)?((?:rate|increase)\s*\(\s*)?([a-zA-Z_:][a-zA-Z0-9_:]*)\s*"
    r"(?:\{([^{}]*)\}\s*)?(?:\[[^\[\]]*\]\s*)?([)\s]*)"
)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"\\]*)"\s*(?:,|$)')
# A regular expression is a list of names only if it has no special characters.
_ALTERNATIVES = re.compile(r"[A-Za-z0-9_:/@ -]+(?:\|[A-Za-z0-9_:/@ -]+)*")
_SPAN = re.compile(r"([1-9][0-9]*)([mhdwMQY])")
_LATENCY_OF = {spec.name: latency for latency, spec in WINDOW_QUANTILES.items()}


class Imported(NamedTuple):
    """The policy made from a file, and the parts that were left out."""

    policy: dict[str, Any]  # plain data in our own format, yet to be checked
    notes: list[str]  # one line for each thing that was left out


class _NotMapped(Exception):
    """Place and reason: an SLO, or a part of it, needs a measure that Tokenpulse lacks."""


class _Selector(NamedTuple):
    metric: str
    matchers: dict[str, tuple[bool, tuple[str, ...]]]  # label -> (whether these, values)


class _Slo(NamedTuple):
    """An SLO's spec, its indicator found."""

    spec: Mapping[str, Any]
    indicator: Mapping[str, Any]


def from_openslo(documents: Iterable[Any], origin: str, name: str) -> Imported:
    """A policy called `name` of all SLOs that map; `origin` names the file in notes."""
    entries = [*_flat(documents)]
    indicators = {_name(entry): _at(entry, "spec") for entry in entries if _kind(entry) == "SLI"}
    objectives: list[dict[str, Any]] = []
    notes = []
    for entry in entries:
        place = f"{origin}: {_kind(entry) or 'document'} {_name(entry) or '(no name)'}"
        if _kind(entry) == "SLI":
            continue
        if _kind(entry) != "SLO":
            notes.append(f"{place}: not imported; only SLO and SLI of {API_VERSION} map")
            continue
        try:
            objectives += _objectives(entry, indicators)
        except _NotMapped as reason:
            notes.append(f"{place}: {reason}")
        else:
            # The objective itself maps, so it is imported, and the note says what is missing.
            if _at(entry, "spec").get("alertPolicies"):
                notes.append(
                    f"{place}: spec.alertPolicies: not imported; burn-rate alerts are compiled "
                    "from `severity` and `route`, set those"
                )
    return Imported({"version": 1, "name": _slug(name), "objectives": objectives}, notes)


def _flat(documents: Iterable[Any]) -> Iterator[Any]:
    for document in documents:
        if isinstance(document, list):
            yield from document
        elif document is not None:
            yield document


def _kind(entry: Any) -> str:
    is_ours = isinstance(entry, dict) and entry.get("apiVersion") == API_VERSION
    return str(entry.get("kind", "")) if is_ours else ""


def _name(entry: Any) -> str:
    return str(_at(entry, "metadata").get("name", ""))


def _at(entry: Any, *keys: str) -> dict[str, Any]:
    """Return the mapping at a path; empty if there is none."""
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry if isinstance(entry, dict) else {}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAME_LENGTH].rstrip("-")


def _objectives(
    entry: Mapping[str, Any], indicators: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    spec = _at(entry, "spec")
    reference = spec.get("indicatorRef")
    if reference is not None and reference not in indicators:
        raise _NotMapped(f"spec.indicatorRef: got {reference!r}; no such SLI in this file, add it")
    slo = _Slo(spec, indicators[reference] if reference else _at(spec, "indicator", "spec"))
    period = _period(spec.get("timeWindow"))
    targets = spec.get("objectives")
    if not isinstance(targets, list) or not targets:
        raise _NotMapped("spec.objectives: got nothing; write at least one with a target")
    for index, target in enumerate(targets):
        place = f"spec.objectives[{index}]"
        target = target if isinstance(target, dict) else {}
        scope, indicator = _indicator(slo, target, place)
        number = f"-{index + 1}" if len(targets) > 1 else ""
        about = spec.get("description") or _at(entry, "metadata").get("displayName")
        yield {
            "name": _slug(_name(entry))[: _NAME_LENGTH - len(number)].rstrip("-") + number,
            **({"about": str(about)} if about else {}),
            "scope": scope or "fleet",
            "indicator": indicator,
            "target": percent_text(_target(target, place)),
            "period": {**period},
        }


def _period(windows: Any) -> dict[str, Any]:
    if not isinstance(windows, list) or len(windows) != 1 or not isinstance(windows[0], dict):
        raise _NotMapped("spec.timeWindow: got no list of one window; write one")
    window = windows[0]
    found = _SPAN.fullmatch(str(window.get("duration")))
    count, unit = (int(found[1]), found[2]) if found else (0, "")
    calendar = window.get("calendar")
    if isinstance(calendar, dict):
        # A month that begins on another day, or at noon, has other requests in it.
        starts_first = re.fullmatch(
            r"\d{4}-\d\d-01[T ]00:00(:00)?Z?", str(calendar.get("startTime"))
        )
        if (count, unit) != (1, "M") or not starts_first:
            raise _NotMapped(
                "spec.timeWindow: of calendars only months from the first at midnight map; write "
                "duration: 1M and startTime: 2026-01-01 00:00:00"
            )
        return {"calendar": "month", "zone": str(calendar.get("timeZone"))}
    days = {"d": count, "w": 7 * count}.get(unit, 0)
    if unit == "h" and count % 24 == 0:
        days = count // 24
    # Without `isRolling` a window of days is aligned to the calendar, which no policy can say.
    if not days or window.get("isRolling") is not True:
        raise _NotMapped(
            f"spec.timeWindow: got {window.get('duration')}; only rolling days and weeks and "
            "calendar months map"
        )
    return {"rolling_days": days}


def _target(target: Mapping[str, Any], place: str) -> Fraction:
    for key, divisor in (("target", 1), ("targetPercent", 100)):
        if key in target:
            return _number(target[key], f"{place}.{key}") / divisor
    raise _NotMapped(f"{place}: got neither target nor targetPercent; write one")


def _number(found: Any, place: str) -> Fraction:
    try:
        # Through text, so that 0.999 of a YAML file is 999/1000 and not the nearest binary
        # fraction.
        if not isinstance(found, bool) and found is not None:
            return Fraction(Decimal(str(found)))
    except (InvalidOperation, ValueError, OverflowError):
        pass
    raise _NotMapped(f"{place}: got {found!r}; write a number")


def _indicator(
    slo: _Slo, target: Mapping[str, Any], place: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(scope, indicator) as our format writes them."""
    method = slo.spec.get("budgetingMethod")
    threshold = _at(slo.indicator, "thresholdMetric")
    if threshold:
        return _of_threshold(_selector(threshold, "thresholdMetric"), method, target, place)
    ratio = _at(slo.indicator, "ratioMetric")
    if "raw" in ratio or "total" not in ratio or ("good" in ratio) == ("bad" in ratio):
        raise _NotMapped("ratioMetric: only total with either good or bad maps")
    total = _selector(ratio["total"], "ratioMetric.total")
    which = "good" if "good" in ratio else "bad"
    part = _selector(ratio[which], f"ratioMetric.{which}")
    scope = _scope(total, {"outcome", "latency"})
    # A part of other series could exceed its total.
    if _scope(part, {"outcome", "latency", "target_seconds"}) != scope:
        raise _NotMapped("ratioMetric: the two queries select different series; use one scope")
    metrics = (part.metric, total.metric)
    if metrics == (REQUESTS_TOTAL.name, REQUESTS_TOTAL.name):
        return scope, _of_requests(part, total, which == "good", method, target, place)
    if metrics == (WITHIN_TARGET_TOTAL.name, MEASURED_TOTAL.name) and which == "good":
        return scope, _of_latency(part, total, method, target, place)
    raise _NotMapped(
        f"ratioMetric: got {part.metric} of {total.metric}; only {REQUESTS_TOTAL.name} of itself "
        f"and {WITHIN_TARGET_TOTAL.name} of {MEASURED_TOTAL.name} map"
    )


def _of_requests(
    part: _Selector,
    total: _Selector,
    is_good: bool,
    method: Any,
    target: Mapping[str, Any],
    place: str,
) -> dict[str, Any]:
    eligible, named = _outcomes(total), _outcomes(part)
    failed = [one for one in eligible if (one not in named if is_good else one in named)]
    # The metric leaves synthetic checks out, and so must the objective.
    counting = {"eligible": eligible, "failed": failed, "probes": False}
    if method == "Occurrences":
        return {"kind": "request_ratio", **counting}
    if method == "Timeslices":
        # `minute_verdicts` judges single minutes; a slice of several has a status of its own.
        if _slice_minutes(target, place) != 1:
            raise _NotMapped(f"{place}.timeSliceWindow: only 1m maps for requests")
        share = _number(target.get("timeSliceTarget"), f"{place}.timeSliceTarget")
        # OpenSLO has the good share that a slice needs, a policy the bad share that it may not
        # exceed.
        return {"kind": "minute_verdicts", "down_above": percent_text(1 - share), **counting}
    if method == "RatioTimeslices":
        minutes = _slice_minutes(target, place)
        return {
            "kind": "slice_ratio_mean",
            "slice": f"{minutes}m",
            "unknown": "excluded",
            **counting,
        }
    raise _NotMapped(f"spec.budgetingMethod: got {method!r}; use Occurrences or Timeslices")


def _of_latency(
    part: _Selector, total: _Selector, method: Any, target: Mapping[str, Any], place: str
) -> dict[str, Any]:
    measure = _only(total, "latency")
    if _only(part, "latency") != measure:
        raise _NotMapped("ratioMetric: the two queries are about different latencies; use one")
    limit_s = _number(_only(part, "target_seconds"), "target_seconds")
    latency = {"measure": measure, "limit": _limit(limit_s)}
    if method == "Occurrences":
        return {"kind": "latency_ratio", **latency}
    if method == "Timeslices":
        share = _number(target.get("timeSliceTarget"), f"{place}.timeSliceTarget")
        return _slice_percentile(latency, share, target, place)
    raise _NotMapped(f"spec.budgetingMethod: got {method!r}; use Occurrences or Timeslices")


def _of_threshold(
    query: _Selector, method: Any, target: Mapping[str, Any], place: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    if query.metric not in _LATENCY_OF:
        raise _NotMapped(f"thresholdMetric: got {query.metric}; only {', '.join(_LATENCY_OF)} map")
    # With Occurrences the samples of the percentile would count, which are no requests.
    if method != "Timeslices" or target.get("op") != "lte":
        raise _NotMapped(f"{place}: a threshold maps with budgetingMethod Timeslices and op: lte")
    minutes = _slice_minutes(target, place)
    # A percentile over a longer window would judge each request in several slices.
    if ROLLING_S.get(_only(query, "window")) != minutes * 60:
        raise _NotMapped(f"{place}.timeSliceWindow: differs from the query's window; use one")
    latency = {
        "measure": _LATENCY_OF[query.metric],
        "limit": _limit(_number(target.get("value"), f"{place}.value")),
    }
    share = _number(_only(query, "quantile"), "quantile")
    scope = _scope(query, {"window", "quantile", "scope"})
    # Without the names, the series of all models or regions would be one objective.
    if set(scope) != set(SCOPE_LABELS.get(_only(query, "scope"), ("scope",))):
        raise _NotMapped(f"{query.metric}: scope and names do not belong together; name what it is")
    return scope, _slice_percentile(latency, share, target, place)


def _slice_percentile(
    latency: Mapping[str, Any], share: Fraction, target: Mapping[str, Any], place: str
) -> dict[str, Any]:
    percentile = share * 100
    if percentile.denominator != 1:
        raise _NotMapped(f"{place}: only whole percentiles map, such as 0.95")
    return {
        "kind": "slice_percentile",
        **latency,
        "percentile": int(percentile),
        "slice": f"{_slice_minutes(target, place)}m",
    }


def _slice_minutes(target: Mapping[str, Any], place: str) -> int:
    """Length of a time slice; OpenSLO takes a bare number for minutes."""
    given = target.get("timeSliceWindow")
    found = _SPAN.fullmatch(f"{given}m" if isinstance(given, int) else str(given))
    minutes = int(found[1]) * {"m": 1, "h": 60}.get(found[2], 0) if found else 0
    if not minutes:
        raise _NotMapped(f"{place}.timeSliceWindow: got {given!r}; write minutes, such as 5m")
    return minutes


def _limit(limit_s: Fraction) -> str:
    limit_us = limit_s * 10**6
    if limit_us.denominator != 1 or limit_us <= 0:
        raise _NotMapped(f"got a limit of {float(limit_s)} s; only whole microseconds map")
    return latency_text(int(limit_us))


def _selector(source: Any, place: str) -> _Selector:
    """The one metric a Prometheus query selects, below `sum`, `rate` and `increase`."""
    metric_source = _at(source, "metricSource")
    query = str(_at(metric_source, "spec").get("query", ""))
    found = _QUERY.fullmatch(query)
    opened = 0 if found is None else (found[1] is not None) + (found[2] is not None)
    # A regular expression cannot count parentheses.
    if found is None or found[5].count(")") != opened:
        raise _NotMapped(
            f"{place}: got the query {query!r}; only a Prometheus query of one Tokenpulse metric "
            "maps, such as sum(rate(" + REQUESTS_TOTAL.name + "[5m]))"
        )
    matchers = {}
    at, text = 0, (found[4] or "").strip()
    while at < len(text):
        matcher = _MATCHER.match(text, at)
        is_plain = matcher is not None and (
            "~" not in matcher[2] or _ALTERNATIVES.fullmatch(matcher[3])
        )
        if matcher is None or not is_plain or matcher[1] in matchers:
            raise _NotMapped(
                f'{place}: cannot read {text[at:]!r}; use label="value" or label=~"a|b", each '
                "label once"
            )
        values = tuple(matcher[3].split("|")) if "~" in matcher[2] else (matcher[3],)
        matchers[matcher[1]] = (matcher[2] in ("=", "=~"), values)
        at = matcher.end()
    return _Selector(found[3], matchers)


def _scope(query: _Selector, others: set[str]) -> dict[str, Any]:
    """Return the scope of the series that a query selects; `others`: labels read elsewhere."""
    scope: dict[str, Any] = {}
    for label, (is_in, values) in query.matchers.items():
        if label in others:
            continue
        if label not in SERIES_LABELS or not is_in:
            raise _NotMapped(
                f"{query.metric}: the label {label} does not map; only names of "
                f"{', '.join(SERIES_LABELS)} do"
            )
        scope[label] = values[0] if len(values) == 1 else sorted(values)
    return scope


def _outcomes(query: _Selector) -> list[str]:
    """The outcomes a query selects, in our order."""
    is_in, values = query.matchers.get("outcome", (False, ()))
    if unknown := sorted(set(values) - set(OUTCOMES)):
        raise _NotMapped(f"got the outcome {unknown[0]!r}; there are {', '.join(OUTCOMES)}")
    return [outcome for outcome in OUTCOMES if (outcome in values) == is_in]


def _only(query: _Selector, label: str) -> str:
    is_in, values = query.matchers.get(label, (False, ()))
    if not is_in or len(values) != 1:
        raise _NotMapped(f'{query.metric}: {label} must be one value; write {label}="..."')
    return values[0]
