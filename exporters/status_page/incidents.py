"""Incidents of the public status page: what operators wrote, update by update.

Pure. An update is never changed or deleted: a correction is another update. Authors are kept for
the audit and are not shown on the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

import msgspec

from streams.checksums import seal_json

Impact = Literal["none", "minor", "major", "critical"]
Stage = Literal["investigating", "identified", "monitoring", "resolved"]
IMPACTS: tuple[Impact, ...] = ("none", "minor", "major", "critical")
STAGES: tuple[Stage, ...] = ("investigating", "identified", "monitoring", "resolved")
RESOLVED: Stage = "resolved"
_LONGEST_NAME, _LONGEST_BODY = 200, 4_000


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """One message to the readers of the page."""

    id: str
    at_s: int
    stage: Stage
    body: str
    author: str

    def __post_init__(self) -> None:
        if not self.body.strip() or len(self.body) > _LONGEST_BODY:
            raise ValueError(f"a message has 1 to {_LONGEST_BODY} characters")
        if not self.author.strip():
            raise ValueError("an update has an author")


@dataclass(frozen=True, slots=True)
class PublicIncident:
    """One incident with its updates, oldest first; there is at least one."""

    id: str
    name: str
    impact: Impact
    components: tuple[str, ...]  # slugs
    updates: tuple[IncidentUpdate, ...]

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > _LONGEST_NAME:
            raise ValueError(f"a name has 1 to {_LONGEST_NAME} characters")

    @property
    def stage(self) -> Stage:
        """The stage of the newest update."""
        return self.updates[-1].stage

    @property
    def started_s(self) -> int:
        return self.updates[0].at_s

    @property
    def updated_s(self) -> int:
        return self.updates[-1].at_s

    @property
    def resolved_s(self) -> int | None:
        """Time of the last update if that resolved the incident; None while it is open."""
        return self.updates[-1].at_s if self.stage == RESOLVED else None

    def reached_s(self, stage: Stage) -> int | None:
        """Return when a stage was first reached; None if it never was."""
        return next((update.at_s for update in self.updates if update.stage == stage), None)


class _Head(msgspec.Struct, frozen=True):
    name: str
    impact: Impact
    components: tuple[str, ...]


_read_head = msgspec.json.Decoder(_Head)
_read_update = msgspec.json.Decoder(IncidentUpdate)
# Ids are generated and hold no colon, so a field is a head or an update of exactly one incident.
_SEPARATOR = ":"


def head_field(incident: PublicIncident) -> tuple[str, bytes]:
    """Return the stored field of what is no update: name, impact, components."""
    head = _Head(incident.name, incident.impact, incident.components)
    return incident.id, seal_json(incident.id, msgspec.json.encode(head))


def update_field(incident_id: str, update: IncidentUpdate) -> tuple[str, bytes]:
    """Return the stored field of an update; no two updates share one, so none is overwritten."""
    field = f"{incident_id}{_SEPARATOR}{update.id}"
    return field, seal_json(field, msgspec.json.encode(asdict(update)))


def read_incidents(stored: Mapping[bytes, bytes]) -> list[PublicIncident]:
    """Return the incidents of stored fields, newest first.

    A head whose first update is not stored yet is left out.
    """
    heads: dict[str, _Head] = {}
    updates: dict[str, list[IncidentUpdate]] = {}
    for field, data in stored.items():
        incident_id, separator, _ = field.decode().partition(_SEPARATOR)
        if separator:
            updates.setdefault(incident_id, []).append(_read_update.decode(data))
        else:
            heads[incident_id] = _read_head.decode(data)
    incidents = [
        PublicIncident(
            incident_id,
            head.name,
            head.impact,
            head.components,
            # Redis returns fields in no order; two updates of one second keep theirs by id.
            tuple(sorted(updates[incident_id], key=lambda update: (update.at_s, update.id))),
        )
        for incident_id, head in heads.items()
        if incident_id in updates
    ]
    return sorted(incidents, key=lambda incident: (-incident.started_s, incident.id))


def worst_impact(impacts: Iterable[Impact]) -> Impact:
    """Return the worst of some impacts; `none` if there are none."""
    return max(impacts, key=IMPACTS.index, default="none")


@dataclass(frozen=True, slots=True)
class IncidentBook:
    """All incidents, newest first."""

    incidents: Sequence[PublicIncident]

    @property
    def unresolved(self) -> list[PublicIncident]:
        return [incident for incident in self.incidents if incident.resolved_s is None]

    def since(self, at_s: float) -> list[PublicIncident]:
        """Return the incidents that were open at `at_s` or later."""
        return [
            incident
            for incident in self.incidents
            if incident.resolved_s is None or incident.resolved_s >= at_s
        ]

    def impact_on(self, slug: str) -> Impact:
        """Return the worst impact of the open incidents of a component."""
        return worst_impact(
            incident.impact for incident in self.unresolved if slug in incident.components
        )

    @classmethod
    def read(cls, stored: Mapping[bytes, bytes]) -> Self:
        """Return the book of stored fields."""
        return cls(read_incidents(stored))
