"""Scenarios that are ordered while the traffic runs, and how a simulator follows them.

Pure: no clock, no Redis; the list is in `streams.simulator.scenario_store`. The list says
what is to be on: an order that is not on it any more is over. A simulator takes each order once,
by its id, from its present time on, and leaves alone what it has sent:

    ordered            |<-------- 5 m -------->|
    present       ........^ taken    ^ gone from the list
    acts                  |<-------->|
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from streams.simulator.scenarios import EPOCH, Scenario, TimelineError
from streams.simulator.timeline import Timeline

ID_BYTES = 3


@dataclass(frozen=True, slots=True)
class ScenarioOrder:
    """One scenario that somebody wants. `entry`: as in a timeline file, with an instant as start.

    `id` was never used before. Raises TimelineError where the entry makes no scenario.
    """

    id: str
    entry: Mapping[str, Any]
    by: str

    @property
    def scenario(self) -> Scenario:
        """The scenario, as a timeline would hold it."""
        return Timeline(source=self.id).with_entry(self.entry).scenarios[0]

    def text(self) -> str:
        """As it is stored."""
        return json.dumps({"entry": self.entry, "by": self.by})

    @classmethod
    def read(cls, id_: str, text: str) -> "ScenarioOrder":
        """The order that was stored; TimelineError where it is none that we know."""
        try:
            found = json.loads(text)
            order = cls(id_, found["entry"], str(found["by"]))
        except (ValueError, KeyError, TypeError) as error:
            raise TimelineError(f"{id_}: not an order of this version; stop it") from error
        if isinstance(order.scenario.start, timedelta):
            raise TimelineError(f"{id_}.start: got no instant; stop it and order it again")
        return order


def new_order(entry: Mapping[str, Any], now_ms: int, by: str) -> ScenarioOrder:
    """An order of an entry whose start counts from now, in epoch ms. Raises TimelineError."""
    planned = Timeline(source="order").with_entry(entry).beginning_at(now_ms).scenarios[0]
    dated = {**entry, "start": _instant(planned.start_ms)}
    return ScenarioOrder(f"{planned.kind}-{secrets.token_hex(ID_BYTES)}", dated, by)


class Follower:
    """What a simulator made of the orders so far. `names`: those of its traffic, by field."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._place_of: dict[str, int | None] = {}  # in the timeline; None where it cannot be
        self._on: set[str] = set()
        self.told: list[str] = []  # lines for people, to be printed and cleared by the caller

    @property
    def obeyed(self) -> list[str]:
        """Ids of the orders that are on or will be."""
        return sorted(self._on)

    def follow(
        self, timeline: Timeline, orders: Sequence[ScenarioOrder], present_ms: int
    ) -> Timeline:
        """The timeline from the present on (epoch ms); the very same where nothing changes."""
        wanted = {order.id for order in orders}
        for order in orders:
            if order.id not in self._place_of:
                timeline = self._take(timeline, order, present_ms)
        for id_ in sorted(self._on):
            place = self._place_of[id_]
            assert place is not None
            if timeline.scenarios[place].end_ms <= present_ms:
                self._on.remove(id_)
                self.told.append(f"scenario {id_} is over")
            elif id_ not in wanted:
                timeline = timeline.limited(place, 0, present_ms)
                self._on.remove(id_)
                self.told.append(f"scenario {id_} was stopped")
        return timeline

    def _take(self, timeline: Timeline, order: ScenarioOrder, present_ms: int) -> Timeline:
        self._place_of[order.id] = None
        place = len(timeline.scenarios)
        try:
            Timeline(source=order.id).with_entry(order.entry).check_names(self._names)
        except TimelineError as error:
            self.told.append(f"scenario {error}")
            return timeline
        longer = timeline.with_entry(order.entry)
        if longer.scenarios[place].end_ms <= present_ms:
            return timeline
        self._place_of[order.id] = place
        self._on.add(order.id)
        self.told.append(f"scenario {order.id} was ordered by {order.by}")
        return longer.limited(place, present_ms, longer.scenarios[place].end_ms)


def described(scenario: Scenario) -> str:
    """A scenario in a few words: `outage of region eu-west-1, error_share 0.5`."""
    where = scenario.where.model_dump(exclude_none=True)
    filters = ", ".join(f"{field} {name}" for field, name in where.items()) or "everything"
    plain = scenario.model_dump(exclude={"kind", "start", "duration", "where"})
    parameters = [f"{key} {_plain(value)}" for key, value in plain.items()]
    return ", ".join([f"{scenario.kind} of {filters}", *parameters])


def _plain(value: object) -> str:
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else f"{value:g}"


def _instant(time_ms: int) -> str:
    found: datetime = EPOCH + timedelta(milliseconds=time_ms)
    return found.isoformat()
