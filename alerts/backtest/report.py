"""The report of a backtest: plain data for JSON, and lines for people.

Pure. Counted ratios are exact decimals in text; docs/backtest.md lists every key.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from alerts.backtest.alertmanager import AlertmanagerConfig
from alerts.backtest.notifications import FiredAlert, Notifications, simulate
from alerts.backtest.run import Backtest, Watched
from alerts.backtest.samples import ReplayedObjective
from alerts.backtest.timeline import Episode
from alerts.promql import seconds_text
from slo.engine.attainment import Stretch, attainment_over, excluded_minutes, period_of
from slo.engine.credits import credit_share, credits_due
from slo.engine.minute_counts import DAY
from slo.engine.minute_status import Attainment, burn_rate
from slo.engine.report import exact, instant
from slo.engine.unknown import NO_GAPS, unknown_reason
from slo.policy.burn_rates import period_s
from slo.policy.policy import Policy
from slo.policy.scope import CalendarMonth
from slo.policy.units import percent_text
from streams.query.instants import rfc3339

_OWN_LABELS = ("window", "credit")  # differ between the rules of one objective


def report(backtest: Backtest, alertmanager: AlertmanagerConfig | None = None) -> dict[str, Any]:
    """Return the whole report; unknown values are absent or null.

    `alertmanager`: its routes and inhibitions, to report the messages that it would have sent.
    """
    recording = backtest.recording
    budgets = {_about(replayed): replayed for replayed in backtest.objectives}
    episodes = [
        _episode(backtest, budgets, watched, episode)
        for watched in backtest.watched
        for episode in watched.episodes()
    ]
    messages = {} if alertmanager is None else {"messages": _messages(backtest, alertmanager)}
    return {
        "from": rfc3339(backtest.from_s),
        "to": rfc3339(backtest.to_s),
        "events": {
            "counted": recording.counted,
            "refused": dict(sorted(recording.refused.items())),
            "duplicates": recording.duplicates,
            "unmapped": recording.unmapped,
        },
        # In the order in which an engineer on duty would have been paged.
        "alerts": sorted(episodes, key=lambda entry: (entry["fired_at"], entry["severity"])),
        "rules": [_rule(backtest, watched) for watched in backtest.watched],
        "promises": [
            _promise(backtest, replayed, name)
            for replayed in backtest.objectives
            for name in replayed.names()
        ],
        "credits": _credits(backtest.objectives),
        **messages,
    }


def notifications(backtest: Backtest, alertmanager: AlertmanagerConfig) -> Notifications:
    """Return the messages about the alerts, in the order of the rules and their firings."""
    fired = []
    for watched in backtest.watched:
        alert = watched.alert
        of_rule = {**alert.labels, "alertname": alert.name, "severity": alert.severity}
        for episode in watched.episodes():
            end_s = math.inf if episode.resolved_at_s is None else episode.resolved_at_s
            fired.append(FiredAlert({**dict(episode.labels), **of_rule}, episode.fired_at_s, end_s))
    return simulate(alertmanager, fired, backtest.to_s)


def _messages(backtest: Backtest, alertmanager: AlertmanagerConfig) -> dict[str, Any]:
    result = notifications(backtest, alertmanager)
    alerts = [
        {**_identity(watched), "scope": dict(episode.labels)}
        for watched in backtest.watched
        for episode in watched.episodes()
    ]
    return {
        "sent": [
            {
                "at": rfc3339(int(message.at_s)),
                "receiver": message.receiver,
                "kind": message.kind,
                "group": dict(message.group),
                "added": [alerts[place] for place in message.added],
                "firing": len(message.alerts),
            }
            for message in result.messages
        ],
        "silenced": [alerts[place] for place in result.silenced],
    }


def _about(replayed: ReplayedObjective) -> tuple[str, str]:
    return replayed.policy.name, replayed.objective.name


def _identity(watched: Watched) -> dict[str, Any]:
    alert = watched.alert
    return {
        "severity": alert.severity,
        "alert": alert.name,
        "policy": alert.labels.get("policy"),
        "objective": alert.labels.get("objective"),
        **{label: alert.labels[label] for label in _OWN_LABELS if label in alert.labels},
    }


def _lasted_s(backtest: Backtest, episode: Episode) -> int:
    end_s = backtest.to_s if episode.resolved_at_s is None else episode.resolved_at_s
    return end_s - episode.fired_at_s


def _episode(
    backtest: Backtest,
    budgets: Mapping[tuple[str, str], ReplayedObjective],
    watched: Watched,
    episode: Episode,
) -> dict[str, Any]:
    scope = dict(episode.labels)
    entry = {
        **_identity(watched),
        "scope": scope,
        "pending_at": rfc3339(episode.pending_at_s),
        "fired_at": rfc3339(episode.fired_at_s),
        "resolved_at": None if episode.resolved_at_s is None else rfc3339(episode.resolved_at_s),
        "lasted_s": _lasted_s(backtest, episode),
        "worst": episode.worst,
        "target": watched.alert.target,
    }
    replayed = budgets.get((str(entry["policy"]), str(entry["objective"])))
    if replayed is not None:
        name = scope.get(replayed.objective.scope.per or "", "")
        end_s = backtest.to_s if episode.resolved_at_s is None else episode.resolved_at_s
        entry["budget_spent_ratio"] = {
            "at_firing": exact(_spent(backtest, replayed, name, episode.fired_at_s)),
            "at_end": exact(_spent(backtest, replayed, name, end_s)),
        }
    return entry


def _rule(backtest: Backtest, watched: Watched) -> dict[str, Any]:
    episodes = watched.episodes()
    return {
        **_identity(watched),
        "for_s": watched.alert.for_s,
        "target": watched.alert.target,
        "fired": len(episodes),
        "firing_s": sum(_lasted_s(backtest, episode) for episode in episodes),
        "too_short": watched.timeline.unfired,
    }


def _attainment(
    backtest: Backtest, replayed: ReplayedObjective, name: str, until_s: int
) -> Attainment:
    """Return the attainment from the first evaluated minute to `until_s`."""
    # The minute of the end counts: a firing within it has spent its part of the budget.
    stretch = (backtest.from_s // 60, -(-until_s // 60))
    return attainment_over(
        replayed.objective, replayed.minute_counts, name, replayed.excluded, stretch, until_s
    )[0]


def _spent(
    backtest: Backtest, replayed: ReplayedObjective, name: str, until_s: int
) -> Fraction | None:
    """Return the share of the period's error budget that was spent until `until_s`.

    The budget assumes that the whole period has the traffic of the evaluated span. None without
    any counted request.
    """
    # The rest of the period is assumed to be like the evaluated span: a recording of an hour says
    # how fast a budget is spent, not how much of it was left.
    whole = _attainment(backtest, replayed, name, backtest.to_s)
    if not whole.counted:
        return None
    part = _attainment(backtest, replayed, name, until_s)
    budget = replayed.objective.error_budget * whole.counted
    return (part.counted - part.good) / budget * _share_of_period(backtest, replayed)


def _share_of_period(backtest: Backtest, replayed: ReplayedObjective) -> Fraction:
    return Fraction(backtest.to_s - backtest.from_s, period_s(replayed.objective))


def _promise(backtest: Backtest, replayed: ReplayedObjective, name: str) -> dict[str, Any]:
    target = replayed.objective.target
    attained = _attainment(backtest, replayed, name, backtest.to_s)
    ratio = attained.ratio
    return {
        "policy": replayed.policy.name,
        "objective": replayed.objective.name,
        "scope": replayed.scope(name) | replayed.objective.scope.finer(),
        "target_ratio": exact(target),
        "attainment": {
            "ratio": exact(ratio),
            "good": exact(attained.good),
            "counted": attained.counted,
        },
        "unknown": _unknown(backtest, replayed, name) if ratio is None else None,
        "budget_spent_ratio": None if ratio is None else exact(burn_rate(ratio, target)),
        "budget_spent_of_period_ratio": exact(_spent(backtest, replayed, name, backtest.to_s)),
        "worst_burn": {
            window: {"rate": rate, "at": rfc3339(at_s), "eligible": eligible}
            for (owner, window), (rate, at_s, eligible) in replayed.worst.items()
            if owner == name
        },
    }


def _unknown(backtest: Backtest, replayed: ReplayedObjective, name: str) -> dict[str, str]:
    """Return why the attainment of the evaluated time is unknown."""
    # The minute of the end counts, as in `_attainment`.
    stretch = (backtest.from_s // 60, -(-backtest.to_s // 60))
    span = replayed.minute_counts.span(name, *stretch)
    is_excluded = excluded_minutes(replayed.excluded, span)
    # A backtest counts by all limits of its policy, so its counts have no gaps.
    reason = unknown_reason(replayed.objective, span, is_excluded, NO_GAPS)
    return {"reason": reason.code, "words": reason.words}


def _credits(objectives: Iterable[ReplayedObjective]) -> list[dict[str, Any]]:
    """Return the credits of the calendar months, as far as they were recorded."""
    # A policy combines the objectives of one name and month into what is due.
    together: dict[tuple[str, str, Stretch], list[ReplayedObjective]] = defaultdict(list)
    for replayed in objectives:
        if replayed.objective.sla is not None:
            for name in replayed.names():
                for month in _months(replayed):
                    together[replayed.policy.name, name, month].append(replayed)
    return [
        entry
        for (_, name, month), group in together.items()
        for entry in _month(group[0].policy, name, month, group)
    ]


def _month(
    policy: Policy, name: str, month: Stretch, group: Sequence[ReplayedObjective]
) -> Iterator[dict[str, Any]]:
    ratios = {
        replayed.objective.name: attainment_over(
            replayed.objective,
            replayed.minute_counts,
            name,
            replayed.excluded,
            month,
            month[1] * 60,
        )[0].ratio
        for replayed in group
    }
    # Without a customer directory only a fee of the policy itself makes an amount.
    due = credits_due(policy, ratios, None)
    for replayed in group:
        ratio, amount = ratios[replayed.objective.name], due.get(replayed.objective.name)
        if replayed.objective.sla is not None and ratio is not None:
            yield {
                "policy": policy.name,
                "objective": replayed.objective.name,
                "scope": replayed.scope(name) | replayed.objective.scope.finer(),
                "from": instant(month[0]),
                "to": instant(month[1]),
                "ratio": exact(ratio),
                "share": exact(credit_share(replayed.objective.sla, ratio)),
                "due": None if amount is None else str(amount),
            }


def _months(replayed: ReplayedObjective) -> list[Stretch]:
    """Return the calendar months of the objective that the recording touches."""
    assert isinstance(replayed.objective.period, CalendarMonth)
    months = [period_of(replayed.objective.period, replayed.minute_counts.begin * 60)]
    while months[-1][1] < replayed.minute_counts.end - DAY:
        months.append(period_of(replayed.objective.period, months[-1][1] * 60))
    return months


# -- for people ------------------------------------------------------------------------------------


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a report for people."""
    events = document["events"]
    rejected = sum(events["refused"].values())
    yield (
        f"{document['from']} to {document['to']}: {events['counted']} events counted, "
        f"{rejected} rejected, {events['duplicates']} duplicates, {events['unmapped']} not mapped"
    )
    for alert in document["alerts"]:
        # It is for no person: it only silences other alerts.
        if alert["severity"] == "none":
            continue
        plus = " " if alert["resolved_at"] else "+"
        yield (
            f"{alert['severity']:<6}  {alert['fired_at']}  {_span(alert['lasted_s']):>7}{plus} "
            f"{_rule_text(alert)}{_scope_text(alert['scope'])}: worst {alert['worst']:.4g}, "
            f"target {alert['target']}{_budget_text(alert)}"
        )
    severities = Counter(alert["severity"] for alert in document["alerts"])
    yield f"pages: {severities['page']}, tickets: {severities['ticket']}"
    if "messages" in document:
        yield from _message_lines(document["messages"])
    for rule in document["rules"]:
        # A rule that nearly fired shows that its `for` decides, which is what a backtest is for.
        if rule["too_short"]:
            yield (
                f"  {_rule_text(rule)}: held {rule['too_short']} times for less than "
                f"{seconds_text(rule['for_s'])}, so it did not fire"
            )
    for promise in document["promises"]:
        yield from _promise_lines(promise)
    for credit in document["credits"]:
        if Fraction(credit["share"]):
            due = f", {credit['due']}" if credit["due"] else ""
            yield (
                f"credit of {_percent(credit['share'])}{due} for the month from {credit['from']}: "
                f"{credit['policy']}/{credit['objective']}{_scope_text(credit['scope'])}, "
                f"as recorded {_percent(credit['ratio'])}"
            )


def _message_lines(messages: Mapping[str, Any]) -> Iterator[str]:
    """Yield the messages with an alert that was in none before, then the number of all."""
    for message in messages["sent"]:
        if message["added"]:
            names = Counter(entry["alert"] for entry in message["added"])
            texts = (f"{name} x{count}" if count > 1 else name for name, count in names.items())
            kind = "message" if message["kind"] == "new" else "further"
            group = _scope_text(message["group"])
            yield f"  {message['at']}  {kind} to {message['receiver']}{group}: {', '.join(texts)}"
    receivers = Counter(message["receiver"] for message in messages["sent"] if message["added"])
    repeats = sum(message["kind"] == "repeat" for message in messages["sent"])
    by_receiver = ", ".join(f"{count} to {name}" for name, count in sorted(receivers.items()))
    # Alerts without a severity are for Alertmanager alone, and never in a message.
    silenced = sum(entry["severity"] != "none" for entry in messages["silenced"])
    yield (
        f"messages: {by_receiver or 'none'}; repeated: {repeats}; alerts in no message: {silenced}"
    )


def _promise_lines(promise: Mapping[str, Any]) -> Iterator[str]:
    about = f"{promise['policy']}/{promise['objective']}{_scope_text(promise['scope'])}"
    ratio = promise["attainment"]["ratio"]
    if ratio is None:
        yield f"{about}: unknown: {promise['unknown']['words']}"
        return
    yield (
        f"{about}: {_percent(ratio)}, target {_percent(promise['target_ratio'])}; error budget "
        f"spent: {_percent(promise['budget_spent_of_period_ratio'])} of a period's, "
        f"{float(promise['budget_spent_ratio']):.4g} times that of the recorded time"
    )
    if promise["worst_burn"]:
        worst = (f"{window} {burn['rate']:.3g}" for window, burn in promise["worst_burn"].items())
        yield f"  worst burn {', '.join(worst)}"


def _rule_text(entry: Mapping[str, Any]) -> str:
    objective = f" {entry['policy']}/{entry['objective']}" if entry["objective"] else ""
    own = "".join(f" {label} {entry[label]}" for label in _OWN_LABELS if label in entry)
    return f"{entry['alert']}{objective}{own}"


def _scope_text(scope: Mapping[str, str]) -> str:
    named = ", ".join(f"{label} {value}" for label, value in scope.items())
    return f" ({named})" if named else ""


def _budget_text(entry: Mapping[str, Any]) -> str:
    spent = entry.get("budget_spent_ratio", {})
    if spent.get("at_firing") is None:
        return ""
    return f", {_percent(spent['at_firing'])} of a period's budget spent"


def _percent(ratio: str) -> str:
    """Return a ratio as a percentage, rounded to three decimals."""
    return percent_text(Fraction(round(Fraction(ratio) * 10**5), 10**5))


def _span(span_s: int) -> str:
    minutes, seconds = divmod(span_s, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s"
