"""Scenarios that an operator requests while the traffic runs, and how a simulator applies them.

Pure: no clock, no Redis; the list of requests is in `streams.simulator.scenario_store`. A scenario
ends if its request is removed from the list. A simulator applies each request once, by its id, from
its present time on, and does not change the traffic that it has already sent:

    requested           |<-------- 5 m -------->|
    present       ........^ applied  ^ removed from the list
    effect                |<-------->|
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from streams.simulator.scenarios import EPOCH, Scenario, TimelineError
from streams.simulator.timeline import Timeline

# 16 million ids are enough for one list.
ID_BYTES = 3


@dataclass(frozen=True, slots=True)
class ScenarioRequest:
    """A request for one scenario, by `by`, with a unique `id`.

    `entry`: as in a timeline file, with an instant as start.
    """

    id: str
    entry: Mapping[str, Any]
    by: str

    @property
    def scenario(self) -> Scenario:
        """Parse the entry. Raises TimelineError."""
        return Timeline(source=self.id).with_entry(self.entry).scenarios[0]

    def pack(self) -> str:
        """Encode for the store."""
        return json.dumps({"entry": self.entry, "by": self.by})

    @classmethod
    def unpack(cls, id_: str, text: str) -> "ScenarioRequest":
        """Decode from the store. Raises TimelineError for another version's format."""
        try:
            fields = json.loads(text)
            request = cls(id_, fields["entry"], str(fields["by"]))
        except (ValueError, KeyError, TypeError) as error:
            raise TimelineError(f"{id_}: not a request of this version; stop it") from error
        # A relative start would count from each simulator's own time.
        if isinstance(request.scenario.start, timedelta):
            raise TimelineError(f"{id_}.start: got no instant; stop it and request it again")
        return request


def new_request(entry: Mapping[str, Any], now_ms: int, by: str) -> ScenarioRequest:
    """Create a request for an entry whose start counts from now, in epoch ms.

    Raises TimelineError.
    """
    planned = Timeline(source="request").with_entry(entry).beginning_at(now_ms).scenarios[0]
    start: datetime = EPOCH + timedelta(milliseconds=planned.start_ms)
    id_ = f"{planned.kind}-{secrets.token_hex(ID_BYTES)}"
    return ScenarioRequest(id_, {**entry, "start": start.isoformat()}, by)


class Follower:
    """Applies requests to the timeline of one simulator.

    `names`: the names in its traffic, by field. `messages` are lines for the log, which the caller
    prints and clears.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._place_of: dict[str, int | None] = {}  # in the timeline; None if it was not applied
        self._active: set[str] = set()
        self.messages: list[str] = []

    @property
    def active_ids(self) -> list[str]:
        """Ids of the requests that are active or planned."""
        return sorted(self._active)

    def follow(
        self, timeline: Timeline, requests: Sequence[ScenarioRequest], present_ms: int
    ) -> Timeline:
        """Return the timeline from the present on (epoch ms); the same object if unchanged."""
        listed = {request.id for request in requests}
        # A request stays known after its end, so that it is applied once.
        for request in requests:
            if request.id not in self._place_of:
                timeline = self._apply(timeline, request, present_ms)
        for id_ in sorted(self._active):
            place = self._place_of[id_]
            assert place is not None
            if timeline.scenarios[place].end_ms <= present_ms:
                self._active.remove(id_)
                self.messages.append(f"scenario {id_} ended")
            elif id_ not in listed:
                # It keeps its place, as later scenarios draw random numbers by place.
                timeline = timeline.limited(place, 0, present_ms)
                self._active.remove(id_)
                self.messages.append(f"scenario {id_} was stopped")
        return timeline

    def _apply(self, timeline: Timeline, request: ScenarioRequest, present_ms: int) -> Timeline:
        # Noted first, so that a request with a mistake is reported once.
        self._place_of[request.id] = None
        place = len(timeline.scenarios)
        try:
            Timeline(source=request.id).with_entry(request.entry).check_names(self._names)
        except TimelineError as error:
            self.messages.append(f"scenario {error}")
            return timeline
        longer = timeline.with_entry(request.entry)
        end_ms = longer.scenarios[place].end_ms
        # It was over before this simulator read it.
        if end_ms <= present_ms:
            return timeline
        self._place_of[request.id] = place
        self._active.add(request.id)
        self.messages.append(f"scenario {request.id} was requested by {request.by}")
        # The records before the present are sent already.
        return longer.limited(place, present_ms, end_ms)


def describe(scenario: Scenario) -> str:
    """Describe a scenario in a few words: `outage of region eu-west-1, error_share 0.5`."""
    where = scenario.where.model_dump(exclude_none=True)
    filters = ", ".join(f"{field} {name}" for field, name in where.items()) or "all traffic"
    parameters = scenario.model_dump(exclude=set(Scenario.model_fields))
    texts = [f"{key} {format_parameter(value)}" for key, value in parameters.items()]
    return ", ".join([f"{scenario.kind} of {filters}", *texts])


def format_parameter(value: object) -> str:
    """Format a parameter of a scenario as an option takes it."""
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else f"{value:g}"
