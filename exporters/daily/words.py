"""The sentences of the daily board: how the day was, whether it can be relied on, and why.

Pure. Plain words with numbers; nothing is escaped.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from exporters.daily.facts import METRICS, Correction, Day, Metric, Value, Values
from exporters.daily.figures import count, figure, percent
from exporters.daily.parts import Part
from streams.stored import Gap

NAMES: dict[Metric, str] = {
    "tokens": "tokens",
    "ttft_p95_s": "P95 TTFT",
    "tpot_p95_s": "P95 TPOT",
    "availability_ratio": "uptime",
    "cache_hit_ratio": "cache hit rate",
}
_DIMENSIONS = {"service_tier": "tier"}
_RATIOS = ("availability_ratio", "cache_hit_ratio")


def cause(metric: Metric, moved: tuple[float, float], dimension: str, name: str, part: Part) -> str:
    """`P95 TTFT rose by 83 ms to 312 ms: model large made +71 ms of it, ...`"""
    was, now = moved
    verb = "rose" if now > was else "fell"
    size = (
        f"{abs(now - was) / was * 100:.0f} %" if metric == "tokens" else _amount(metric, now - was)
    )
    where = f"{_DIMENSIONS.get(dimension, dimension)} {name}"
    return (
        f"{_capital(NAMES[metric])} {verb} by {size} to {figure(metric, now)}: {where} made "
        f"{_signed(metric, part.total)} of it, {_split(metric, part)}."
    )


def _split(metric: Metric, part: Part) -> str:
    """How much of a part is rate and how much is mix."""
    rate, mix = _signed(metric, part.rate), _signed(metric, part.mix)
    by_rate, by_mix = f"by rate ({_rate(metric, part)})", f"by mix ({_mix(metric, part)})"
    if not _says(mix):
        return f"all {by_rate}"
    if not _says(rate):
        return f"all {by_mix}"
    return f"{rate} {by_rate} and {mix} {by_mix}"


def _rate(metric: Metric, part: Part) -> str:
    was, now = part.before.value, part.now.value
    if was is None:
        return "it is new"
    if now is None:
        return "it is gone"
    if metric == "tokens":
        return f"{was:,.0f} tokens a request before, {now:,.0f} now"
    own = {"availability_ratio": "its uptime", "cache_hit_ratio": "its rate"}.get(metric, "its P95")
    return f"{own} was {figure(metric, was)}, now {figure(metric, now)}"


def _mix(metric: Metric, part: Part) -> str:
    was, now = part.before.weight, part.now.weight
    if metric == "tokens":
        return f"{was:,.0f} requests a day before, {now:,.0f} now"
    return f"its share of the traffic was {percent(was, 1)}, now {percent(now, 1)}"


def _amount(metric: Metric, by: float) -> str:
    """The size of a change, in the metric's unit."""
    if metric == "tokens":
        return figure(metric, abs(by))
    if metric in _RATIOS:
        places = 3 if metric == "availability_ratio" else 1
        return f"{abs(by) * 100:.{places}f} points"
    ms = abs(by) * 1_000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _signed(metric: Metric, by: float) -> str:
    amount = _amount(metric, by)
    return f"{'-' if by < 0 else '+'}{amount}" if _says(amount) else amount


def _says(amount: str) -> bool:
    """Whether anything is left of it after rounding."""
    return any(digit in "123456789" for digit in amount)


def correction(metric: Metric, sealed: Values, now: Values) -> Correction:
    """What a sealed metric would read today, and why."""
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
    """How a day was, in one sentence."""
    if not day.values.requests and not day.values.availability_ratio.samples:
        return f"{day_name(day.date)}: nothing was counted."
    missed = [metric for metric in METRICS if _of(day, metric).mark == "missed"]
    judged = [metric for metric in METRICS if _of(day, metric).mark != "unknown"]
    when = f"{day_name(day.date)}" + (" so far" if day.state == "running" else "")
    if not judged:
        return f"{when}: {count(day.values.requests)} requests; no target is set."
    if not missed:
        best = [metric for metric in judged if _of(day, metric).mark == "best"]
        rest = f", {_listed([NAMES[one] for one in best])} best in class" if best else ""
        return f"{when}: {_all(len(judged))} met{rest}."
    told = _listed([f"{NAMES[one]} at {figure(one, _of(day, one).value)}" for one in missed])
    met = len(judged) - len(missed)
    rest = f"; {met} of {len(judged)} targets met" if met else ""
    return f"{when}: {told} missed {'its target' if len(missed) == 1 else 'their targets'}{rest}."


def trust(day: Day, now_s: float, zone: ZoneInfo, month_missing: int) -> str:
    """Whether a day can be relied on, in one sentence."""
    match day.state:
        case "sealed":
            said = f"Final since {_instant(day.sealed_at_s or 0, zone)}"
        case "provisional":
            said = "Provisional: the numbers may still change"
        case "running":
            said = f"Running: the day is not over, the numbers reach to {_instant(now_s, zone)}"
        case "absent":
            said = "Nothing is known of this day"
    if day.note:
        said += f"; {day.note[0].lower() + day.note[1:].rstrip('.')}"
    elif day.state != "absent":
        said += "; no records are known to be missing"
    if day.corrections:
        numbers = "1 number" if len(day.corrections) == 1 else f"{len(day.corrections)} numbers"
        said += f"; {numbers} would read otherwise today"
    if month_missing:
        days = "1 day" if month_missing == 1 else f"{month_missing} days"
        said += f"; {days} of the month are not known"
    return said + "."


def missing(gaps: Sequence[Gap], since_ms: int | None, day_from_s: int, zone: ZoneInfo) -> str:
    """Why a day is incomplete."""
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


def waiting(
    seal_at_s: float, now_s: float, behind: Sequence[tuple[int, int]], zone: ZoneInfo
) -> str:
    """Why a day that is over is not sealed; `behind`: (partition, read up to)."""
    if now_s < seal_at_s:
        return f"Late events count until {_instant(seal_at_s, zone)}."
    if not behind:
        return "It is being sealed."
    partition, until_s = min(behind, key=lambda one: one[1])
    others = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
    reach = f"up to {_instant(until_s, zone)} only" if until_s else "not at all"
    return f"Partition {partition}{others} is read {reach}."


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


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _all(targets: int) -> str:
    return "the target" if targets == 1 else f"all {targets} targets"
