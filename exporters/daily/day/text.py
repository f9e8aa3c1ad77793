"""Write the sentences of the daily board: the day's result, its trustworthiness, the causes.

Pure. Plain words with numbers; no text is escaped.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from exporters.daily.day.attribution import Part
from exporters.daily.day.facts import METRICS, Correction, Day, Metric, Value, Values
from exporters.daily.day.figures import count, figure, percent
from streams.state.registry import OTHER
from streams.state.snapshot import Gap

NAMES: dict[Metric, str] = {
    "tokens": "tokens",
    "ttft_p95_s": "P95 TTFT",
    "tpot_p95_s": "P95 TPOT",
    "availability_ratio": "uptime",
    "cache_hit_ratio": "cache hit rate",
}
_DIMENSIONS = {"service_tier": "tier"}
PROBES = "synthetic checks"  # customers have none; they stand beside the customers
# What a name did to a metric that it brought down.
_TOOK: dict[Metric, str] = {
    "tokens": "took away",
    "ttft_p95_s": "took off",
    "tpot_p95_s": "took off",
    "availability_ratio": "took",
    "cache_hit_ratio": "took",
}
_TOKEN = re.compile(r"\b[0-9a-f]{24}\b")  # of a customer
_RATIOS = ("availability_ratio", "cache_hit_ratio")


def with_names(text: str, name_of: Callable[[str], str]) -> str:
    """A text with the names of customers for their tokens; `name_of`: token -> name."""
    return _TOKEN.sub(lambda found: name_of(found[0]), text)


def cause(metric: Metric, moved: tuple[float, float], dimension: str, part: Part) -> str:
    """`P95 TTFT rose by 83 ms to 312 ms: model large added 71 ms, all by rate (...)`"""
    was, now = moved
    verb = "rose" if now > was else "fell"
    size = (
        f"{abs(now - was) / was * 100:.0f} %" if metric == "tokens" else _amount(metric, now - was)
    )
    did = "added" if part.total > 0 else _TOOK[metric]
    return (
        f"{_capital(NAMES[metric])} {verb} by {size} to {figure(metric, now)}: "
        f"{_where(dimension, part.name)} {did} {_amount(metric, part.total)}"
        f"{_split(metric, part)}."
    )


def _where(dimension: str, name: str) -> str:
    if name == PROBES:
        return name
    if name == OTHER:  # names that are not counted by themselves
        return f"all other {_DIMENSIONS.get(dimension, dimension)}s together"
    return f"{_DIMENSIONS.get(dimension, dimension)} {name}"


def _split(metric: Metric, part: Part) -> str:
    """Return the shares of rate and mix in a part, in words."""
    rate, mix = _signed_text(metric, part.rate), _signed_text(metric, part.mix)
    by_rate, by_mix = f"by rate ({_rate(metric, part)})", f"by mix ({_mix(metric, part)})"
    if not _says(mix):
        return f", all {by_rate}"
    if not _says(rate):
        return f", all {by_mix}"
    return f": {rate} {by_rate} and {mix} {by_mix}"


def _rate(metric: Metric, part: Part) -> str:
    was, now = part.before.value, part.now.value
    if was is None or now is None:
        return _mix(metric, part)
    if metric == "tokens":
        return _from_to("tokens a request", was, now, "{:,.0f}".format)
    whose = "their" if part.name in (OTHER, PROBES) else "its"
    return _from_to(f"{whose} own {NAMES[metric]}", was, now, lambda one: figure(metric, one))


def _mix(metric: Metric, part: Part) -> str:
    was, now = part.before.weight, part.now.weight
    if metric == "tokens":
        return _from_to("requests a day", was, now, "{:,.0f}".format)
    if part.before.value is None:
        return f"new, with {percent(now, 1)} of the traffic"
    if part.now.value is None:
        return f"gone, with {percent(was, 1)} of the traffic before"
    return _from_to("share of the traffic", was, now, lambda one: percent(one, 1))


def _from_to(what: str, was: float, now: float, written: Callable[[float], str]) -> str:
    before, after = written(was), written(now)
    if before == after:
        return f"{what} about {after} as before"
    return f"{what} {'rose' if now > was else 'fell'} from {before} to {after}"


def _amount(metric: Metric, by: float) -> str:
    """The size of a change, in the metric's unit."""
    if metric == "tokens":
        return figure(metric, abs(by))
    if metric in _RATIOS:
        places = 3 if metric == "availability_ratio" else 1
        return f"{abs(by) * 100:.{places}f} points"
    ms = abs(by) * 1_000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _signed_text(metric: Metric, by: float) -> str:
    amount = _amount(metric, by)
    return f"{'-' if by < 0 else '+'}{amount}" if _says(amount) else amount


def _says(amount: str) -> bool:
    """Return True if the number is not zero after rounding."""
    return any(digit in "123456789" for digit in amount)


def correction(metric: Metric, sealed: Values, now: Values) -> Correction:
    """Return the value that a final metric would have today, and the reason."""
    more = now.requests - sealed.requests
    was: Value = getattr(sealed, metric)
    one: Value = getattr(now, metric)
    if more > 0:
        words = f"late events: {_requests(more)} more"
    elif more < 0:
        words = f"the state was lost and built again: {_requests(-more)} fewer"
    elif one.samples != was.samples:
        checks = abs(one.samples - was.samples)
        words = f"late events: {count(checks)} synthetic check{'s' if checks > 1 else ''} "
        words += "more" if one.samples > was.samples else "fewer"
    else:
        words = "late events"
    return Correction(metric, was.value, one.value, words)


def headline(day: Day) -> str:
    """Return the result of a day in one sentence."""
    if not day.values.requests and not day.values.availability_ratio.samples:
        return f"{day_name(day.date)}: nothing was counted."
    missed = [metric for metric in METRICS if _of(day, metric).mark == "missed"]
    judged = [metric for metric in METRICS if _of(day, metric).mark != "unknown"]
    when = f"{day_name(day.date)}" + (" so far" if day.state == "running" else "")
    if not judged:
        return f"{when}: {count(day.values.requests)} requests; no target is set."
    if not missed:
        best = [metric for metric in judged if _of(day, metric).mark == "best"]
        rest = f", {_enumeration([NAMES[one] for one in best])} best in class" if best else ""
        return f"{when}: {_all(len(judged))} met{rest}."
    told = _enumeration([f"{NAMES[one]} at {figure(one, _of(day, one).value)}" for one in missed])
    met = len(judged) - len(missed)
    rest = f"; {met} of {len(judged)} targets met" if met else ""
    return f"{when}: {told} missed {'its target' if len(missed) == 1 else 'their targets'}{rest}."


def trust(day: Day, now_s: float, zone: ZoneInfo, month_holes: int) -> str:
    """Return how reliable the data of a day is, in one sentence."""
    match day.state:
        case "sealed":
            said = f"Final since {_instant(day.sealed_at_s or 0, zone)}"
        case "provisional":
            said = "Provisional: the numbers may still change"
        case "running":
            said = f"Running: the day is not over, the numbers reach to {_instant(now_s, zone)}"
        case "absent":
            said = (
                "Nothing is known of this day" if day.note else "No event of this day was counted"
            )
    if day.note:
        said += f"; {day.note[0].lower() + day.note[1:].rstrip('.')}"
    elif day.state != "absent":
        said += "; no records are known to be missing"
    if day.corrections:
        numbers = "1 number" if len(day.corrections) == 1 else f"{len(day.corrections)} numbers"
        said += f"; {numbers} would read otherwise today"
    if month_holes:
        days = (
            "1 day of the month is" if month_holes == 1 else f"{month_holes} days of the month are"
        )
        said += f"; {days} incomplete or not known"
    return said + "."


def missing(gaps: Sequence[Gap], since_ms: int | None, day_from_s: int, zone: ZoneInfo) -> str:
    """Return the reason why a day is incomplete."""
    if gaps:
        lost = sum(gap.records for gap in gaps)
        what = f"{count(lost)} records" if lost else "records"
        until = "now" if gaps[-1].to_ms is None else _instant(gaps[-1].to_ms / 1_000, zone)
        return (
            f"Incomplete: {what} are missing between {_instant(gaps[0].from_ms / 1_000, zone)} "
            f"and {until}."
        )
    if since_ms is not None and since_ms > day_from_s * 1_000:
        return f"Incomplete: counting began at {_instant(since_ms / 1_000, zone)}."
    return "Incomplete: records are known to be missing."


def early(seal_at_s: float, zone: ZoneInfo) -> str:
    """A day is not final: late events have time."""
    return f"Late events count until {_instant(seal_at_s, zone)}."


def silent(seal_at_s: float, until_s: float, zone: ZoneInfo) -> str:
    """Return that a day is not final because no later event arrived."""
    return (
        f"No event of after {_instant(seal_at_s, zone)} has come, so earlier ones may be on their "
        f"way; without one it is final at {_instant(until_s, zone)}."
    )


def unread_partitions(behind: Sequence[tuple[int, int]], zone: ZoneInfo) -> str:
    """Return that a day is not final: events are unread; `behind`: (partition, read up to)."""
    partition, until_s = min(behind, key=lambda one: one[1])
    reach = f"up to {_instant(until_s, zone)} only" if until_s else "not at all"
    more = len(behind) - 1
    others = f", and {more} more partition{'s' if more > 1 else ''}" if more else ""
    return f"Not everything is read yet: partition {partition} {reach}{others}."


GONE = "It was not sealed in time, and its slices are no longer kept."
NEVER = (
    "Midnight of this time zone does not fall on slices that are kept; choose another "
    "exporter.time_zone."
)


def both(first: str, second: str) -> str:
    """Two sentences as one."""
    if not first or not second:
        return first or second
    return f"{first.rstrip('.')}; {second[0].lower()}{second[1:]}"


def day_name(text: str) -> str:
    """`Tuesday 10 November 2026`."""
    at = date.fromisoformat(text)
    return f"{at:%A} {at.day} {at:%B %Y}"


def _of(day: Day, metric: Metric) -> Value:
    found: Value = getattr(day.values, metric)
    return found


def _instant(at_s: float, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(at_s, UTC).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M}"


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _enumeration(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _all(targets: int) -> str:
    return "the target" if targets == 1 else f"all {targets} targets"
