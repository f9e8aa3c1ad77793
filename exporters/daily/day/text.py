"""Write the sentences of the daily board: the day's trustworthiness, corrections, the causes.

Pure. Plain words with numbers; no text is escaped.
"""

import re
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

from exporters.daily.day.attribution import ChangePart
from exporters.daily.day.facts import Correction, Day, Metric, PeriodKind, Reopening, Values
from exporters.daily.day.figures import amount, figure, is_visible
from exporters.formatting import capitalize, count, counted, enumeration, minute, percent, tokens
from streams.state.registry import OTHER
from streams.state.snapshot import Gap

NAMES: dict[Metric, str] = {
    "tokens": "tokens",
    "ttft_p95_s": "P95 TTFT",
    "tpot_p95_s": "P95 TPOT",
    "availability_ratio": "availability",
    "cache_hit_ratio": "cache hit rate",
}
_DIMENSIONS = {"service_tier": "tier"}
PROBES = "synthetic checks"  # they belong to no customer, and are compared beside the customers
# The verb for a name that brought a metric down.
_TOOK: dict[Metric, str] = {
    "tokens": "took away",
    "ttft_p95_s": "took off",
    "tpot_p95_s": "took off",
    "availability_ratio": "took",
    "cache_hit_ratio": "took",
}
_TOKEN = re.compile(r"\b[0-9a-f]{24}\b")  # of a customer


def with_names(text: str, name_of: Callable[[str], str]) -> str:
    """Return a text with the names of customers for their tokens; `name_of`: token -> name."""
    return _TOKEN.sub(lambda match: customer_name(match[0], name_of), text)


def customer_name(token: str, name_of: Callable[[str], str]) -> str:
    """Return a customer's name; without one, `unlisted 3f9c02`, by the first digits of its hash."""
    name = name_of(token)
    return f"unlisted {token[:6]}" if name == token and _TOKEN.fullmatch(token) else name


def cause(
    metric: Metric,
    move: tuple[float, float],
    dimension: str,
    part: ChangePart,
    target: float | None = None,
    *,
    is_first: bool = True,
) -> str:
    """Return `P95 TTFT rose by 83 ms to 312 ms: model large added 71 ms, all by rate (...)`.

    `is_first`: False for a further cause of the same change, which is not stated again.
    """
    before, now = move
    did = "added" if part.total > 0 else _TOOK[metric]
    if not is_first:
        return (
            f"{capitalize(_group(dimension, part.name))} {did} {amount(metric, part.total)} of "
            f"this change in {NAMES[metric]}{_split(metric, part)}."
        )
    verb = "rose" if now > before else "fell"
    by = percent(abs(now - before) / before) if metric == "tokens" else amount(metric, now - before)
    return (
        f"{capitalize(NAMES[metric])} {verb} by {by} to {figure(metric, now, target)}: "
        f"{_group(dimension, part.name)} {did} {amount(metric, part.total)}"
        f"{_split(metric, part)}."
    )


def _group(dimension: str, name: str) -> str:
    if name == PROBES:
        return name
    dimension = _DIMENSIONS.get(dimension, dimension)
    # OTHER: names that are not counted by themselves.
    return f"all other {dimension}s together" if name == OTHER else f"{dimension} {name}"


def _split(metric: Metric, part: ChangePart) -> str:
    """Return the shares of rate and mix in a part, in words."""
    by_rate, by_mix = f"by rate ({_rate(metric, part)})", f"by mix ({_mix(metric, part)})"
    if not is_visible(metric, part.mix):
        return f", all {by_rate}"
    if not is_visible(metric, part.rate):
        return f", all {by_mix}"
    return f": {_signed(metric, part.rate)} {by_rate} and {_signed(metric, part.mix)} {by_mix}"


def _rate(metric: Metric, part: ChangePart) -> str:
    before, now = part.before.value, part.now.value
    # A name on one side only has no own change; its share says all.
    if before is None or now is None:
        return _mix(metric, part)
    if metric == "tokens":
        return _from_to("tokens a request", before, now, tokens)
    whose = "their" if part.name in (OTHER, PROBES) else "its"
    return _from_to(
        f"{whose} own {NAMES[metric]}", before, now, lambda value: figure(metric, value)
    )


def _mix(metric: Metric, part: ChangePart) -> str:
    before, now = part.before.weight, part.now.weight
    if metric == "tokens":
        return _from_to("requests a day", before, now, count)
    if part.before.value is None:
        return f"new, with {percent(now)} of the traffic"
    if part.now.value is None:
        return f"gone, with {percent(before)} of the traffic before"
    return _from_to("share of the traffic", before, now, percent)


def _from_to(subject: str, before: float, now: float, write: Callable[[float], str]) -> str:
    # Numbers that read the same neither rose nor fell for a reader.
    if write(before) == write(now):
        return f"{subject} about {write(now)} as before"
    verb = "rose" if now > before else "fell"
    return f"{subject} {verb} from {write(before)} to {write(now)}"


def _signed(metric: Metric, by: float) -> str:
    return f"{'-' if by < 0 else '+'}{amount(metric, by)}"


def correction(metric: Metric, final: Values, now: Values) -> Correction:
    """Return the value that a final metric would have today, and the reason."""
    more = now.requests - final.requests
    checks = now.of(metric).samples - final.of(metric).samples
    if more > 0:
        reason = f"late events: {counted(more, 'request')} more"
    elif more < 0:
        reason = f"the state was lost and built again: {counted(-more, 'request')} fewer"
    elif checks:
        reason = f"late events: {counted(abs(checks), 'synthetic check')} "
        reason += "more" if checks > 0 else "fewer"
    else:
        reason = "late events"
    return Correction(metric, final.of(metric).value, now.of(metric).value, reason)


def trust(
    day: Day,
    now_s: float,
    zone: ZoneInfo,
    month_holes: int = 0,
    *,
    noun: PeriodKind = "day",
    progress: str = "",
) -> str:
    """Return how reliable the data of a day, week or month is, in one sentence.

    `noun`: which of them. `progress`: how much of a running one is over, ` (3 of 7 days)`.
    """
    match day.state:
        case "sealed":
            state = f"Final since {minute(day.sealed_at_s or 0, zone)}"
        case "provisional":
            state = "Provisional: the numbers may still change"
        case "running":
            state = (
                f"Running: the {noun} is not over{progress}, the numbers reach to "
                f"{minute(now_s, zone)}"
            )
        case "absent":
            state = (
                f"There is no data of this {noun}"
                if day.note
                else f"No event of this {noun} was counted"
            )
    if day.note:
        state += f"; {day.note[0].lower() + day.note[1:].rstrip('.')}"
    elif day.state != "absent":
        state += "; no records are known to be missing"
    if day.corrections:
        state += f"; {counted(len(day.corrections), 'number')} would read otherwise today"
    if month_holes:
        verb = "is" if month_holes == 1 else "are"
        state += f"; {counted(month_holes, 'day')} of the month {verb} incomplete or without data"
    return state + "."


def missing(gaps: Sequence[Gap], since_ms: int | None, day_from_s: int, zone: ZoneInfo) -> str:
    """Return the reason why a day is incomplete."""
    if gaps:
        lost = sum(gap.records for gap in gaps)
        records = f"{count(lost)} records" if lost else "records"
        from_text = minute(gaps[0].from_ms / 1_000, zone)
        until = "now" if gaps[-1].to_ms is None else minute(gaps[-1].to_ms / 1_000, zone)
        return f"Incomplete: {records} are missing between {from_text} and {until}."
    if since_ms is not None and since_ms > day_from_s * 1_000:
        return f"Incomplete: counting began at {minute(since_ms / 1_000, zone)}."
    return "Incomplete: records are known to be missing."


def first_event(first_s: float, zone: ZoneInfo) -> str:
    """Return that a day has data from its first event on only."""
    return f"The first event ever counted is from {minute(first_s, zone)}."


def early(seal_at_s: float, zone: ZoneInfo) -> str:
    """Return that a day is not final because late events still count."""
    return f"Late events count until {minute(seal_at_s, zone)}."


def silent(seal_at_s: float, zone: ZoneInfo) -> str:
    """Return that a day is not final because no later event arrived."""
    return (
        f"No event from after {minute(seal_at_s, zone)} has arrived, so earlier ones may be on "
        "their way; the day becomes final once one arrives."
    )


def reopening_note(reopenings: Sequence[Reopening], zone: ZoneInfo) -> str:
    """Return who took back that a day was final, when and why."""
    words = [
        f"by {one.author} at {minute(one.at_s, zone)} ({one.reason.rstrip('.')})"
        for one in reopenings
    ]
    return f"The day was final before, and was opened again {enumeration(words)}."


def wrong_clock(problem: str) -> str:
    """Return that a day is not final because the clock that says that it is over may be wrong."""
    return f"The day is not final yet: {problem}."


def unread_partitions(behind: Sequence[tuple[int, int]], zone: ZoneInfo) -> str:
    """Return that a day is not final: events are unread; `behind`: (partition, read up to)."""
    partition, until_s = min(behind, key=lambda reach: reach[1])
    reach = f"is read up to {minute(until_s, zone)} only" if until_s else "is not read at all"
    more = len(behind) - 1
    rest = f", and {counted(more, 'more partition')} behind" if more else ""
    return f"Not all events are read yet: partition {partition} {reach}{rest}."


DAMAGED = (
    "Its final data is damaged in Redis and is not replaced: a worker restores it from the archive "
    "within a minute, or put a backup back."
)
GONE = "It was not finalised in time, and its slices are no longer kept."
NEVER = (
    "Midnight of this time zone does not fall on slices that are kept; choose another "
    "exporter.time_zone."
)


def both(first: str, second: str) -> str:
    """Return two sentences as one."""
    if not first or not second:
        return first or second
    return f"{first.rstrip('.')}; {second[0].lower()}{second[1:]}"
