"""Failures of the traffic in words: how many, where, and how it is elsewhere.

Pure. Whether the condition of an alert holds comes from the rules (alerts.py); an alert waits
before it fires, the board shows it at once. Failures are localised over the last minute, so that an
outage is shown within seconds.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import log

import numpy as np
import numpy.typing as npt

from exporters import formatting as fmt
from exporters.board.alerts import (
    BURN,
    CLIENT_ERRORS,
    CUSTOMER_FLOOD,
    CUSTOMER_SILENT,
    MISSED,
    OUTAGE,
    RATE_LIMITED,
    URGENCY,
    severity_of,
)
from exporters.board.breakdown import FleetTargets
from exporters.board.facts import Extent, Incident, Severity
from exporters.board.incidents.budgets import expected_notification
from exporters.board.incidents.clusters import (
    EVERYWHERE,
    STREAMING_SHARE,
    FailureCluster,
    FailureCounts,
)
from exporters.board.incidents.localisation import EVIDENCE_MIN, STREAM_NAMES, SeriesGroups
from exporters.board.incidents.newest import NewestFailures, Recovery
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.input import BoardInput
from exporters.board.objectives import NameOf
from exporters.windows.incremental import Sums
from exporters.windows.measured import outcome_counts
from slo.alert_state import AlertState
from slo.policy.conditions import FLOOD_TIMES_OTHERS, OUTAGE_BELOW, USUAL_MIN_REQUESTS
from streams.events.decoder import ELIGIBLE
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.tables import Ints

OUTAGE_WINDOW = "1m"
USUAL_WINDOW = "1h"
_EXPLAINED_SHARE = 0.5  # of an alert's failures that are in a place, for it to be the same fault
# Of the last seconds; with fewer, streams and places are hardly told apart, and a few more than
# usual may be chance.
_EARLY_MIN_FAILURES = 16
_BEGINS_ABOVE = 1.5  # times the share of the minute, for the last seconds to show a beginning
GROUP = "failures"
INCIDENTS_MAX = 3
# Which requests a cluster has, by STREAM_NAMES: as the subject, and before `requests`.
_KINDS = {None: "", "streamed": "streaming", "unstreamed": "requests without streaming"}
_REQUESTS = {None: "", "streamed": "streamed ", "unstreamed": ""}
# Alert -> its outcome in short, and what the requests are.
_DENIALS = {
    CLIENT_ERRORS: ("client errors", "client errors"),
    RATE_LIMITED: ("rate-limited", "rate-limited (429)"),
}
_OTHER_WORDS = {
    "TokenpulseCreditDue": "A credit is due if the period ended now: {places}.",
}
_CUSTOMER_WORDS = {
    CUSTOMER_FLOOD: "Customer {customer} sent {share} of all requests of the last hour, over "
    f"{FLOOD_TIMES_OTHERS} times as many beside those of all others as in the day before.",
    CUSTOMER_SILENT: "Customer {customer} sent hardly any request in the last hour, and {share} of "
    "those of the last day; other customers send as usual.",
}


# -- availability ----------------------------------------------------------------------------------


def outages(
    reading: BoardInput, groups: SeriesGroups, recovery: Recovery, limits: FleetTargets
) -> Iterator[Incident]:
    """Yield the places whose failures of the last minute, or of its last seconds if no others do,
    spend the error budget too fast.

    A place that explains an active outage alert is an outage. Any further place is an early sign:
    no rule looks at a single minute, and the burn-rate alerts follow if the failures continue. Of
    an alert that no place explains, the labels are shown.

    An outage that recovers slowly is below the condition of its alert before its failures end; the
    alert is kept firing, and its place is still an outage that notifies a person.
    """
    sums, series = reading.windows[OUTAGE_WINDOW]["series"], len(reading.names["series"])
    counts, newest = (FailureCounts(one, groups, series) for one in (sums, reading.newest))
    bad = counts.bad.sum(axis=0)
    allowed = limits.failing_share
    if allowed is None:  # no objective about failures
        allowed = 1 - float(OUTAGE_BELOW)
    kept = [alert for alert in reading.alerts.kept if alert.alert == OUTAGE]
    unexplained = [*reading.alerts.outages, *kept]
    burns = [alert for alert in reading.alerts.states if _is_page_about_failures(alert)]
    failed_of = {id(alert): bad * _inside_alert(alert, reading) for alert in (*unexplained, *burns)}
    all_requests = int(counts.total.sum())
    named: set[str] = set()
    clusters = list(counts.clusters(allowed))
    # A fault of a part of all requests takes seconds to be a share of the minute.
    if not clusters and counts.is_stream_known == newest.is_stream_known:
        early = list(newest.clusters(allowed))
        usual = FailureCounts(reading.windows[USUAL_WINDOW]["series"], groups, series)
        clusters = [
            counts.recount(cluster)
            for cluster in early
            if cluster.bad >= _EARLY_MIN_FAILURES or _is_unusual(cluster, newest, usual)
        ]
    for cluster in clusters:
        where = cluster.where
        inside = np.ones(series, np.bool_) if where is None else groups.inside(where)
        explained = [
            alert
            for alert in unexplained
            if _is_same_fault(alert, failed_of[id(alert)], inside, cluster.bad)
        ]
        unexplained = [alert for alert in unexplained if alert not in explained]
        severity: Severity = "page"
        if not explained and limits.burn is not None and limits.burn.severity == "ticket":
            severity = "ticket"
        name = OUTAGE if explained else BURN
        last = recovery.newest(cluster, newest, reading.now_s, reading.newest_s)
        where_is = groups.where(cluster.where)
        # Of an early sign: the page about the budget that it spends, once its condition holds.
        paging = explained or [
            alert
            for alert in burns
            if _is_same_fault(alert, failed_of[id(alert)], inside, cluster.bad)
        ]
        notification = notification_of(paging)
        if not paging and not (last is not None and last.is_recovering):
            notification = expected_notification(
                reading, where_is, lambda series: _present_share(series, counts, newest)
            )
        # Streams and other requests of one place may fail for two reasons: two incidents.
        kind = (cluster.stream or "",) if cluster.place in named else ()
        named.add(cluster.place)
        yield Incident(
            severity,
            _failure_words(cluster, last, groups, sums),
            name,
            name,
            # One key for the outage and its early sign: the same incident.
            incident_key(GROUP, cluster.place, *kind),
            notification,
            _extent(cluster, last, all_requests, int(newest.total.sum())),
            where=where_is,
            group=GROUP,
            is_recovering=last is not None and last.is_recovering,
        )
    # Kept ones without failures are over (kept.py).
    holding = [alert for alert in unexplained if alert.holds]
    holding.sort(key=lambda alert: (URGENCY[severity_of(alert)], alert.value))
    yield from map(_outage_by_labels, holding[:INCIDENTS_MAX])


def _present_share(series: Ints, counts: FailureCounts, newest: FailureCounts) -> float:
    """Return the share of failures of some series at present, for an estimate that is steady."""
    minute, last = counts.share(series), newest.share(series)
    # A minute that began before the fault dilutes it; else it has less noise.
    return last if last > _BEGINS_ABOVE * minute else minute


def _is_unusual(cluster: FailureCluster, newest: FailureCounts, usual: FailureCounts) -> bool:
    """Return whether a few failures of the last seconds are of one kind and place, and no chance.

    `usual`: counts of the last hour.
    """
    is_named = cluster.stream is not None and (
        cluster.where is not None or newest.is_spread(cluster)
    )
    if not is_named or usual.is_stream_known != newest.is_stream_known:
        return False
    hour = usual.recount(cluster)
    bad, total = hour.bad - cluster.bad, hour.total - cluster.total
    if total < USUAL_MIN_REQUESTS:
        return False
    # One more than there were, as a rate of exactly 0 is never certain.
    expected = cluster.total * (bad + 1) / total
    excess = cluster.bad - expected
    return excess > 0 and cluster.bad * log(cluster.bad / expected) - excess >= EVIDENCE_MIN


def _is_page_about_failures(alert: AlertState) -> bool:
    """Return whether an alert pages about the error budget of the fleet, a model or a region."""
    labels = alert.rule_labels
    if (alert.alert, alert.severity, labels.get("kind")) != (BURN, "page", "availability"):
        return False
    return labels.get("scope") in ("fleet", *alert.series)


def _is_same_fault(
    alert: AlertState, failed: Ints, inside: npt.NDArray[np.bool_], cluster_failed: int
) -> bool:
    """Return whether an alert and a cluster of failures are about one fault.

    `failed`: failures of the alert's place by series. `inside`: the series of the cluster.
    """
    common = int((failed * inside).sum())
    # An alert about a larger or a smaller place is the same fault if its failures are here.
    if not common or common < _EXPLAINED_SHARE * int(failed.sum()):
        return False
    # A place that recovers has few failures; most of those of another fault are elsewhere.
    return alert.holds or common >= _EXPLAINED_SHARE * cluster_failed


def _inside_alert(alert: AlertState, reading: BoardInput) -> Ints:
    """Return 1 for each series that an outage alert is about, else 0."""
    names = {label: alert.series[label] for label in ("model", "region") if label in alert.series}
    places = [SERIES_DIMENSIONS.index(label) for label in names]
    wanted = tuple(names.values())
    inside = [tuple(key[at] for at in places) == wanted for key in reading.names["series"]]
    return np.array(inside, np.int64)


def _outage_by_labels(alert: AlertState) -> Incident:
    """Return an outage that no cluster of failures explains, named by the alert's labels."""
    where = tuple(
        (dimension, alert.series[dimension])
        for dimension in ("model", "region")
        if dimension in alert.series
    )
    place = " in ".join(" ".join(pair) for pair in where) or "the fleet"
    words = (
        f"{fmt.capitalize(place)}: {fmt.percent(1 - alert.value)} of the requests failed in the "
        f"{fmt.last_window(OUTAGE_WINDOW)}."
    )
    return Incident(
        severity_of(alert),
        words,
        OUTAGE,
        OUTAGE,
        incident_key(GROUP, place if where else EVERYWHERE),
        notification_of([alert]),
        Extent(1 - alert.value, f"{fmt.percent(1 - alert.value)} failed"),
        where=where,
        group=GROUP,
    )


def _extent(
    cluster: FailureCluster, last: NewestFailures | None, requests: int, newest_requests: int
) -> Extent:
    """Return how bad a cluster is: in the minute or, at the begin of a fault, in the last seconds.

    `requests`, `newest_requests`: of the fleet in these two.
    """
    share, affected = cluster.bad / cluster.total, cluster.bad / requests
    # A minute that began before the fault dilutes it.
    if last is not None and last.is_shown and last.share > share:
        share, affected = last.share, max(affected, last.bad / newest_requests)
    return Extent(share, f"{fmt.percent(share)} failed", affected)


def _failure_words(
    cluster: FailureCluster, last: NewestFailures | None, groups: SeriesGroups, sums: Sums
) -> str:
    share, failed = fmt.percent(cluster.bad / cluster.total), _failed(cluster, groups, sums)
    outcomes = ", ".join(_commonest(failed))
    stream = cluster.stream
    # If all requests are streamed nothing can be compared, but only streamed answers end early.
    if stream is None and failed["stream_error"] >= STREAMING_SHARE * failed.total():
        stream = STREAM_NAMES[0]
    noun, minute = f"{_REQUESTS[cluster.stream]}request", fmt.last_window(OUTAGE_WINDOW)
    if last is not None and last.is_shown:
        # The present first: a minute shows a beginning and an end too late.
        words = (
            f"{fmt.percent(last.share)} of {fmt.counted(last.total, noun)} failed in the last "
            f"{fmt.span(last.age_s)}, {share} of {cluster.total:,} in the {minute} ({outcomes})"
        )
    else:
        words = f"{share} of {fmt.counted(cluster.total, noun)} failed in the {minute} ({outcomes})"
    kind, elsewhere = _KINDS[stream], ""
    if (cluster.where or cluster.stream) and cluster.total_elsewhere:
        share_elsewhere = fmt.percent(cluster.bad_elsewhere / cluster.total_elsewhere)
        of = "elsewhere" if cluster.where else "other requests"
        elsewhere = f"; {of} {share_elsewhere}"
    is_recovering = last is not None and last.is_recovering
    if cluster.where is None:
        place = kind or ("the service" if is_recovering else "")
        end = f", in all regions and models alike{elsewhere}."
    else:
        place = f"{kind} in {cluster.where.words}" if kind else cluster.where.words
        end = f"{elsewhere}."
    if is_recovering:
        are_many = stream == STREAM_NAMES[1] or (not kind and len(cluster.names) > 1)
        place += " recover" if are_many else " recovers"
    return f"{fmt.capitalize(place)}{': ' if place else ''}{words}{end}"


def _failed(cluster: FailureCluster, groups: SeriesGroups, sums: Sums) -> Counter[str]:
    """Return the failures of a place by outcome."""
    counts = sums.counts.values
    if cluster.where is not None:
        counts = counts[groups.inside(cluster.where)[sums.counts.keys]]
    return Counter(
        {
            name: number
            for name, number in outcome_counts(counts).items()
            if name in ELIGIBLE and name != "success"
        }
    )


def _commonest(failed: Counter[str]) -> list[str]:
    """Return the commonest outcome, and the second if it matters."""
    commonest = failed.most_common(2)
    # A second outcome below a tenth of the first would only lengthen the sentence.
    if len(commonest) == 2 and commonest[1][1] * 10 < commonest[0][1]:
        commonest = commonest[:1]
    return [name for name, _ in commonest]


def denial_incidents(reading: BoardInput, name_of: NameOf) -> Iterator[Incident]:
    """Yield the places whose client errors, or rate-limited requests, jumped.

    Of two alerts about one place and outcome, the more urgent one.
    """
    for alert, (outcome, denied) in _DENIALS.items():
        places: dict[tuple[str, str], AlertState] = {}
        states = reading.alerts.named(alert)
        for state in sorted(states, key=lambda state: URGENCY[severity_of(state)]):
            scope = state.series["scope"]
            places.setdefault((scope, state.series[scope]), state)
        for (scope, name), state in list(places.items())[:INCIDENTS_MAX]:
            place = name_of(name) if scope == "customer" else name
            share = fmt.percent(state.value)
            words = (
                f"{fmt.capitalize(scope)} {place}: {share} of the requests are {denied}, far more "
                "than in the day before; availability does not count them."
            )
            yield Incident(
                severity_of(state),
                words,
                alert,
                alert,
                incident_key(alert, scope, name),
                notification_of([state]),
                Extent(state.value, f"{share} {outcome}"),
                where=((scope, name),),
            )


def customer_incidents(reading: BoardInput, name_of: NameOf) -> Iterator[Incident]:
    """Yield the customers that send a flood of requests, and the large ones that send none."""
    for alert, words_of in _CUSTOMER_WORDS.items():
        for state in reading.alerts.named(alert)[:INCIDENTS_MAX]:
            customer, share = state.series["customer"], fmt.percent(state.value)
            yield Incident(
                severity_of(state),
                words_of.format(customer=name_of(customer), share=share),
                alert,
                alert,
                incident_key(alert, customer),
                notification_of([state]),
                where=(("customer", customer),),
            )


def other_incidents(reading: BoardInput, shown: Sequence[Incident]) -> Iterator[Incident]:
    """Yield one incident for each active alert that no other incident is about.

    An alert that this version has no sentence for is still shown, and the banner follows it.
    """
    worded = {incident.alert for incident in shown}
    # An incident about a burn rate says too that the budget is spent.
    if BURN in worded:
        worded.add(MISSED)
    others = {state.alert: state for state in reading.alerts.states if state.alert not in worded}
    for alert in others:
        states = [state for state in reading.alerts.states if state.alert == alert]
        states.sort(key=lambda state: URGENCY[severity_of(state)])
        places = [
            ", ".join(f"{label} {value}" for label, value in state.series.items())
            or state.rule_labels.get("objective", "the fleet")
            for state in states
        ]
        yield Incident(
            severity_of(states[0]),
            _OTHER_WORDS.get(alert, f"Alert {alert} holds for {{places}}.").format(
                places=fmt.enumeration(places)
            ),
            alert,
            alert,
            incident_key(alert, *places),
            notification_of(states),
            where=tuple(dict.fromkeys(pair for state in states for pair in state.series.items())),
            group=alert,
        )
