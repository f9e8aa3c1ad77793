"""The routes and inhibitions of an Alertmanager configuration, as far as a backtest needs them.

Pure but for `load`. Receivers are only names here; templates and addresses are not read.

Source: https://prometheus.io/docs/alerting/latest/configuration/
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError

Labels = Mapping[str, str]

_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^",{}]*?)\s*(?:,|$)')
_SPAN = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_DAY_S = 86_400
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FIRST_WEEKDAY = 3  # of 1970-01-01, a Thursday
_SIMULATED_TIMES = {"weekdays", "times", "location"}
# Alertmanager's own defaults.
_GROUP_WAIT_S, _GROUP_INTERVAL_S, _REPEAT_S = 30.0, 300.0, 14_400.0


@dataclass(frozen=True, slots=True)
class Matcher:
    """One comparison of a label; an absent label is empty."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Labels) -> bool:
        """Return whether the comparison is true; patterns match the whole value."""
        value = labels.get(self.label, "")
        is_equal = (
            bool(re.fullmatch(self.value, value)) if "~" in self.operator else value == self.value
        )
        return is_equal is not self.operator.startswith("!")


Matchers = tuple[Matcher, ...]


def match_all(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Return whether all comparisons are true."""
    return all(matcher.matches(labels) for matcher in matchers)


@dataclass(frozen=True, slots=True)
class ActiveTime:
    """A span of the UTC day on some weekdays; 0 is Monday."""

    begin_s: int
    end_s: int
    weekdays: frozenset[int]

    def contains(self, at_s: float) -> bool:
        """Return whether a time lies in it, in seconds since 1970."""
        days, second = divmod(at_s, _DAY_S)
        weekday = (int(days) + _FIRST_WEEKDAY) % 7
        return weekday in self.weekdays and self.begin_s <= second < self.end_s


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While an alert of the source fires, alerts of the target are silent."""

    source: Matchers
    target: Matchers
    equal: tuple[str, ...]  # labels that must agree

    def equal_values(self, labels: Labels) -> tuple[str, ...]:
        """Return the values that must agree; an absent label is empty."""
        return tuple(labels.get(label, "") for label in self.equal)

    def is_on_both_sides(self, labels: Labels) -> bool:
        """Return whether an alert is source and target; such alerts do not silence each other."""
        return match_all(self.source, labels) and match_all(self.target, labels)


@dataclass(frozen=True, slots=True)
class Route:
    """Where alerts go, how they are grouped, and when messages about a group are sent."""

    matchers: Matchers
    receiver: str
    group_by: tuple[str, ...] | None  # None: by all labels
    group_wait_s: float
    group_interval_s: float
    repeat_s: float
    active: tuple[ActiveTime, ...] | None  # None: at any time
    is_last: bool  # later routes beside it do not get its alerts
    routes: tuple["Route", ...]

    def leaves(self, labels: Labels) -> Iterator["Route"]:
        """Yield the routes whose receivers get an alert."""
        if not match_all(self.matchers, labels):
            return
        has_child = False
        for route in self.routes:
            inner = list(route.leaves(labels))
            yield from inner
            has_child |= bool(inner)
            if inner and route.is_last:
                break
        if not has_child:
            yield self

    def group_key(self, labels: Labels) -> tuple[tuple[str, str], ...]:
        """Return the labels by which alerts share messages, sorted; absent ones are left out."""
        by = labels if self.group_by is None else self.group_by
        return tuple(sorted((label, labels[label]) for label in by if label in labels))

    def is_active(self, at_s: float) -> bool:
        """Return whether messages are sent at a time, in seconds since 1970."""
        return self.active is None or any(span.contains(at_s) for span in self.active)


@dataclass(frozen=True, slots=True)
class AlertmanagerConfig:
    """What decides which messages a person gets."""

    route: Route
    inhibitions: tuple[Inhibition, ...]
    receivers: frozenset[str]  # that send messages; a receiver may have no address at all


def load(path: Path | None = None) -> AlertmanagerConfig:
    """Read a configuration; without `path`, the shipped one. Raises ConfigError."""
    if path is None:
        file = resources.files("alerts") / "alertmanager" / "alertmanager.yml"
        return read(file.read_text(encoding="utf-8"), "alertmanager.yml")
    return read(read_text(path), str(path))


def read(text: str, origin: str) -> AlertmanagerConfig:
    """Read the text of a configuration; `origin` names it in errors. Raises ConfigError."""
    document = parse_document(text, origin)
    try:
        intervals = {
            entry["name"]: tuple(_times(entry["time_intervals"]))
            for entry in document.get("time_intervals") or ()
        }
        return AlertmanagerConfig(
            _route(document["route"], None, intervals),
            tuple(
                Inhibition(
                    _matchers(rule.get("source_matchers")),
                    _matchers(rule.get("target_matchers")),
                    tuple(rule.get("equal") or ()),
                )
                for rule in document.get("inhibit_rules") or ()
            ),
            # A receiver with a name alone is a black hole: alerts are routed to it to be dropped.
            frozenset(entry["name"] for entry in document["receivers"] if len(entry) > 1),
        )
    except (AttributeError, KeyError, TypeError, ValueError, re.error) as problem:
        # amtool names the line and the rule, which a simulation does not know.
        raise ConfigError(
            f"{origin}: cannot be simulated: {problem!r}; check it with amtool check-config"
        ) from problem


def _route(
    node: Mapping[str, Any],
    parent: Route | None,
    intervals: Mapping[str, tuple[ActiveTime, ...]],
) -> Route:
    """Return a route with its children; what it leaves out is that of the route above it."""
    if "mute_time_intervals" in node or "match" in node or "match_re" in node:
        raise ValueError("mute_time_intervals, match and match_re are not simulated")
    by = node.get("group_by")
    group_by: tuple[str, ...] | None = ()
    if by is not None:
        # `...` is Alertmanager's word for all labels.
        group_by = None if "..." in by else tuple(by)
    elif parent is not None:
        group_by = parent.group_by
    # Unlike the grouping, active times are not inherited from the route above.
    names = node.get("active_time_intervals")
    route = Route(
        matchers=_matchers(node.get("matchers")),
        receiver=node["receiver"] if parent is None else node.get("receiver", parent.receiver),
        group_by=group_by,
        group_wait_s=_span_s(
            node, "group_wait", parent.group_wait_s if parent else None, _GROUP_WAIT_S
        ),
        group_interval_s=_span_s(
            node, "group_interval", parent.group_interval_s if parent else None, _GROUP_INTERVAL_S
        ),
        repeat_s=_span_s(node, "repeat_interval", parent.repeat_s if parent else None, _REPEAT_S),
        active=None if names is None else tuple(span for name in names for span in intervals[name]),
        is_last=not node.get("continue", False),
        routes=(),
    )
    children = tuple(_route(child, route, intervals) for child in node.get("routes") or ())
    return replace(route, routes=children)


def _span_s(node: Mapping[str, Any], key: str, inherited: float | None, default: float) -> float:
    text = node.get(key)
    if text is None:
        return default if inherited is None else inherited
    if not re.fullmatch(f"(?:{_SPAN.pattern})+|0", text):
        raise ValueError(f"{key}: {text}")
    return sum(int(amount) * _UNITS_S[unit] for amount, unit in _SPAN.findall(text))


def _matchers(texts: Iterable[str] | None) -> Matchers:
    """Return the comparisons of a list of texts, each with one or several of them."""
    matchers = []
    for text in texts or ():
        rest = text.strip().removeprefix("{").removesuffix("}").strip()
        while rest:
            matched = _MATCHER.match(rest)
            if matched is None:
                raise ValueError(f"matcher {text}")
            label, operator, value = matched.groups()
            # Values without quotation marks have no escapes.
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            matchers.append(Matcher(label, operator, value))
            rest = rest[matched.end() :].strip()
    return tuple(matchers)


def _times(entries: Iterable[Mapping[str, Any]]) -> Iterator[ActiveTime]:
    for entry in entries:
        # Other zones and days of the month would need a calendar; a wrong time would be worse than
        # none.
        if entry.get("location", "UTC") != "UTC" or not set(entry) <= _SIMULATED_TIMES:
            raise ValueError(f"only weekdays and times of the UTC day, got {dict(entry)}")
        weekdays = frozenset(_days(entry.get("weekdays") or ["monday:sunday"]))
        for span in entry.get("times") or [{"start_time": "00:00", "end_time": "24:00"}]:
            yield ActiveTime(_second(span["start_time"]), _second(span["end_time"]), weekdays)


def _days(texts: Iterable[str]) -> Iterator[int]:
    for text in texts:
        first, _, last = text.lower().partition(":")
        yield from range(_WEEKDAYS.index(first), _WEEKDAYS.index(last or first) + 1)


def _second(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    return hour * 3_600 + minute * 60
