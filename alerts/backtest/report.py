"""What a backtest found, as plain data and for people.

Pure. Ratios that were counted leave as exact decimals in text; docs/backtest.md lists every key.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from alerts.backtest.run import Backtest, Watched
from alerts.backtest.samples import ReplayedObjective
from alerts.backtest.timeline import Episode
from alerts.promql import seconds_text
from slo.engine.attainment import Stretch, judged, period_of
from slo.engine.credits import credit_share, credits_due
from slo.engine.minute_counts import DAY
from slo.engine.minute_status import Attainment, burn_rate
from slo.engine.report import exact, instant
from slo.policy.burn_rates import period_s
from slo.policy.policy import Policy
from slo.policy.scope import CalendarMonth
from slo.policy.units import percent_text
from streams.query.instants import rfc3339

_OWN_LABELS = ("window", "credit")  # tell rules of one objective apart


def report(found: Backtest) -> dict[str, Any]:
    """All of it; what is not known is absent or null."""
    recording = found.recording
    budgets = {_about(one): one for one in found.judged}
    episodes = [
        _episode(found, budgets, watched, episode)
        for watched in found.watched
        for episode in watched.episodes()
    ]
    return {
        "from": rfc3339(found.from_s),
        "to": rfc3339(found.to_s),
        "events": {
            "counted": recording.counted,
            "refused": dict(sorted(recording.refused.items())),
            "duplicates": recording.duplicates,
            "unmapped": recording.unmapped,
        },
        "alerts": sorted(episodes, key=lambda one: (one["fired_at"], one["severity"])),
        "rules": [_rule(found, watched) for watched in found.watched],
        "promises": [_promise(found, one, name) for one in found.judged for name in one.names()],
        "credits": _credits(found.judged),
    }


def _about(one: ReplayedObjective) -> tuple[str, str]:
    return one.policy.name, one.objective.name


def _named(watched: Watched) -> dict[str, Any]:
    alert = watched.alert
    return {
        "severity": alert.severity,
        "alert": alert.name,
        "policy": alert.labels.get("policy"),
        "objective": alert.labels.get("objective"),
        **{label: alert.labels[label] for label in _OWN_LABELS if label in alert.labels},
    }


def _lasted_s(found: Backtest, episode: Episode) -> int:
    end_s = found.to_s if episode.resolved_at_s is None else episode.resolved_at_s
    return end_s - episode.fired_at_s


def _episode(
    found: Backtest,
    budgets: Mapping[tuple[str, str], ReplayedObjective],
    watched: Watched,
    episode: Episode,
) -> dict[str, Any]:
    scope = dict(episode.labels)
    entry = {
        **_named(watched),
        "scope": scope,
        "pending_at": rfc3339(episode.pending_at_s),
        "fired_at": rfc3339(episode.fired_at_s),
        "resolved_at": None if episode.resolved_at_s is None else rfc3339(episode.resolved_at_s),
        "lasted_s": _lasted_s(found, episode),
        "worst": episode.worst,
        "target": watched.alert.target,
    }
    one = budgets.get((str(entry["policy"]), str(entry["objective"])))
    if one is not None:
        name = scope.get(one.objective.scope.per or "", "")
        end_s = found.to_s if episode.resolved_at_s is None else episode.resolved_at_s
        entry["budget_spent_ratio"] = {
            "at_firing": exact(_spent(found, one, name, episode.fired_at_s)),
            "at_end": exact(_spent(found, one, name, end_s)),
        }
    return entry


def _rule(found: Backtest, watched: Watched) -> dict[str, Any]:
    episodes = watched.episodes()
    return {
        **_named(watched),
        "for_s": watched.alert.for_s,
        "target": watched.alert.target,
        "fired": len(episodes),
        "firing_s": sum(_lasted_s(found, episode) for episode in episodes),
        "too_short": watched.timeline.unfired,
    }


def _attained(found: Backtest, one: ReplayedObjective, name: str, until_s: int) -> Attainment:
    """From the beginning of what was evaluated, in whole minutes."""
    stretch = (found.from_s // 60, -(-until_s // 60))
    return judged(one.objective, one.minute_counts, name, one.excluded, stretch, until_s)[0]


def _spent(found: Backtest, one: ReplayedObjective, name: str, until_s: int) -> Fraction | None:
    """Share of the period's error budget, had all of it the traffic of what was evaluated."""
    whole = _attained(found, one, name, found.to_s)
    if not whole.counted:
        return None
    part = _attained(found, one, name, until_s)
    budget = one.objective.error_budget * whole.counted
    return (part.counted - part.good) / budget * _share_of_period(found, one)


def _share_of_period(found: Backtest, one: ReplayedObjective) -> Fraction:
    return Fraction(found.to_s - found.from_s, period_s(one.objective))


def _promise(found: Backtest, one: ReplayedObjective, name: str) -> dict[str, Any]:
    target = one.objective.target
    attained = _attained(found, one, name, found.to_s)
    ratio = attained.ratio
    return {
        "policy": one.policy.name,
        "objective": one.objective.name,
        "scope": one.scope(name),
        "target_ratio": exact(target),
        "attainment": {
            "ratio": exact(ratio),
            "good": exact(attained.good),
            "counted": attained.counted,
        },
        "budget_spent_ratio": None if ratio is None else exact(burn_rate(ratio, target)),
        "budget_spent_of_period_ratio": exact(_spent(found, one, name, found.to_s)),
        "worst_burn": {
            window: {"rate": rate, "at": rfc3339(at_s), "eligible": eligible}
            for (of, window), (rate, at_s, eligible) in one.worst.items()
            if of == name
        },
    }


def _credits(objectives: Iterable[ReplayedObjective]) -> list[dict[str, Any]]:
    """Return the credits of the calendar months, as far as they were recorded."""
    together: dict[tuple[str, str, Stretch], list[ReplayedObjective]] = defaultdict(list)
    for one in objectives:
        if one.objective.sla is not None:
            for name in one.names():
                for month in _months(one):
                    together[one.policy.name, name, month].append(one)
    return [
        entry
        for (_, name, month), group in together.items()
        for entry in _month(group[0].policy, name, month, group)
    ]


def _month(
    policy: Policy, name: str, month: Stretch, group: Sequence[ReplayedObjective]
) -> Iterator[dict[str, Any]]:
    ratios = {
        one.objective.name: judged(
            one.objective, one.minute_counts, name, one.excluded, month, month[1] * 60
        )[0].ratio
        for one in group
    }
    due = credits_due(policy, ratios, None)
    for one in group:
        ratio, amount = ratios[one.objective.name], due.get(one.objective.name)
        if one.objective.sla is not None and ratio is not None:
            yield {
                "policy": policy.name,
                "objective": one.objective.name,
                "scope": one.scope(name),
                "from": instant(month[0]),
                "to": instant(month[1]),
                "ratio": exact(ratio),
                "share": exact(credit_share(one.objective.sla, ratio)),
                "due": None if amount is None else str(amount),
            }


def _months(one: ReplayedObjective) -> list[Stretch]:
    """Calendar months of the objective that the recording touches."""
    assert isinstance(one.objective.period, CalendarMonth)
    found = [period_of(one.objective.period, one.minute_counts.begin * 60)]
    while found[-1][1] < one.minute_counts.end - DAY:
        found.append(period_of(one.objective.period, found[-1][1] * 60))
    return found


# -- for people ------------------------------------------------------------------------------------


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A report for people."""
    events = found["events"]
    refused = sum(events["refused"].values())
    yield (
        f"{found['from']} to {found['to']}: {events['counted']} events counted, {refused} refused, "
        f"{events['duplicates']} duplicates, {events['unmapped']} not mapped"
    )
    for one in found["alerts"]:
        goes_on = " " if one["resolved_at"] else "+"
        yield (
            f"{one['severity']:<6}  {one['fired_at']}  {_span(one['lasted_s']):>7}{goes_on} "
            f"{_rule_text(one)}{_scope_text(one['scope'])}: worst {one['worst']:.4g}, "
            f"target {one['target']}{_budget_text(one)}"
        )
    told = Counter(one["severity"] for one in found["alerts"])
    yield f"pages: {told['page']}, tickets: {told['ticket']}"
    for rule in found["rules"]:
        if rule["too_short"]:
            yield (
                f"  {_rule_text(rule)}: held {rule['too_short']} times for less than "
                f"{seconds_text(rule['for_s'])}: nobody was told"
            )
    for one in found["promises"]:
        yield from _promise_lines(one)
    for one in found["credits"]:
        if Fraction(one["share"]):
            due = f", {one['due']}" if one["due"] else ""
            yield (
                f"credit of {_percent(one['share'])}{due} for the month from {one['from']}: "
                f"{one['policy']}/{one['objective']}{_scope_text(one['scope'])}, as recorded "
                f"{_percent(one['ratio'])}"
            )


def _promise_lines(one: Mapping[str, Any]) -> Iterator[str]:
    about = f"{one['policy']}/{one['objective']}{_scope_text(one['scope'])}"
    ratio = one["attainment"]["ratio"]
    if ratio is None:
        yield f"{about}: nothing known"
        return
    yield (
        f"{about}: {_percent(ratio)} of {_percent(one['target_ratio'])}; error budget spent: "
        f"{_percent(one['budget_spent_ratio'])} of this stretch's, "
        f"{_percent(one['budget_spent_of_period_ratio'])} of a period's"
    )
    if one["worst_burn"]:
        worst = (f"{window} {burn['rate']:.3g}" for window, burn in one["worst_burn"].items())
        yield f"  worst burn {', '.join(worst)}"


def _rule_text(one: Mapping[str, Any]) -> str:
    of = f" {one['policy']}/{one['objective']}" if one["objective"] else ""
    own = "".join(f" {label} {one[label]}" for label in _OWN_LABELS if label in one)
    return f"{one['alert']}{of}{own}"


def _scope_text(scope: Mapping[str, str]) -> str:
    named = ", ".join(f"{label} {value}" for label, value in scope.items())
    return f" ({named})" if named else ""


def _budget_text(one: Mapping[str, Any]) -> str:
    spent = one.get("budget_spent_ratio", {})
    if spent.get("at_firing") is None:
        return ""
    return f", {_percent(spent['at_firing'])} of a period's budget spent"


def _percent(ratio: str) -> str:
    """Rounded to what people read."""
    return percent_text(Fraction(round(Fraction(ratio) * 10**5), 10**5))


def _span(span_s: int) -> str:
    minutes, seconds = divmod(span_s, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s"
