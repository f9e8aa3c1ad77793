"""The status page as JSON, in the shape of the common status-page API (version 2).

Pure. Clients of hosted status pages read these documents unchanged: `summary.json`, `status.json`,
`components.json`, `incidents.json`, `incidents/unresolved.json`, `scheduled-maintenances.json` and
its parts. Names of keys and values are those of Atlassian Statuspage's public API.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from exporters.formatting import rfc3339
from exporters.status_page.facts import STATUS_OF, ComponentFacts, StatusFacts
from exporters.status_page.incidents import IncidentUpdate, PublicIncident
from slo.engine.maintenance import Maintenance

PAGE_ID = "tokenpulse"
INCIDENTS_MAX = 50  # as hosted pages do
Json = dict[str, Any]


def page_json(facts: StatusFacts) -> Json:
    """Return the `page` object that every document has."""
    return {
        "id": PAGE_ID,
        "name": facts.page.title,
        "url": facts.page.url or "",
        "time_zone": "Etc/UTC",
        "updated_at": rfc3339(facts.now_s),
    }


def _status(facts: StatusFacts) -> Json:
    return {"indicator": facts.indicator, "description": facts.description}


def _component(facts: StatusFacts, part: ComponentFacts, position: int) -> Json:
    # The file has no date of a component: the first day of its bars stands for it.
    begin = rfc3339(part.days[0].start_s) if part.days else page_json(facts)["updated_at"]
    return {
        "id": part.component.slug,
        "name": part.component.name,
        "description": part.component.about,
        "status": part.status,
        "created_at": begin,
        "updated_at": rfc3339(facts.now_s),
        "position": position,
        # Clients expect these keys, though pages of ours have no groups of components.
        "group_id": None,
        "group": False,
        "showcase": True,
        "only_show_if_degraded": False,
        "page_id": PAGE_ID,
    }


def _components(facts: StatusFacts) -> list[Json]:
    return [_component(facts, part, at) for at, part in enumerate(facts.components, 1)]


def _components_of(facts: StatusFacts, slugs: Iterable[str]) -> list[Json]:
    """Return the components of some ids; one that is no longer in the file is left out."""
    wanted = set(slugs)
    return [part for part in _components(facts) if part["id"] in wanted]


def _update(facts: StatusFacts, incident: PublicIncident, update: IncidentUpdate) -> Json:
    status = "operational" if update.stage == "resolved" else STATUS_OF[incident.impact]
    at = rfc3339(update.at_s)
    return {
        "id": update.id,
        "incident_id": incident.id,
        "status": update.stage,
        "body": update.body,
        "created_at": at,
        "updated_at": at,
        "display_at": at,
        "affected_components": [
            {"code": part["id"], "name": part["name"], "new_status": status}
            for part in _components_of(facts, incident.components)
        ],
    }


def _incident(facts: StatusFacts, incident: PublicIncident) -> Json:
    monitoring_s, resolved_s = incident.reached_s("monitoring"), incident.resolved_s
    return {
        "id": incident.id,
        "name": incident.name,
        "status": incident.stage,
        "impact": incident.impact,
        "created_at": rfc3339(incident.started_s),
        "started_at": rfc3339(incident.started_s),
        "updated_at": rfc3339(incident.updated_s),
        "monitoring_at": None if monitoring_s is None else rfc3339(monitoring_s),
        "resolved_at": None if resolved_s is None else rfc3339(resolved_s),
        "shortlink": f"{facts.page.url or ''}#{incident.id}",
        "page_id": PAGE_ID,
        "components": _components_of(facts, incident.components),
        # The newest first, as readers of such pages expect.
        "incident_updates": [
            _update(facts, incident, update) for update in reversed(incident.updates)
        ],
    }


def _maintenance(facts: StatusFacts, window: Maintenance) -> Json:
    running = facts.is_running(window)
    status, created = "in_progress" if running else "scheduled", rfc3339(window.created_at_s)
    update = {
        "id": f"{window.id}-1",
        "incident_id": window.id,
        "status": status,
        "body": window.reason,
        "created_at": created,
        "updated_at": created,
        "display_at": created,
        # Maintenance concerns all policies, so no component is singled out.
        "affected_components": [],
    }
    return {
        "id": window.id,
        "name": "Scheduled maintenance",
        "status": status,
        "impact": "maintenance",
        "created_at": created,
        "started_at": rfc3339(window.from_s),
        "updated_at": created,
        "monitoring_at": None,
        "resolved_at": None,
        "shortlink": f"{facts.page.url or ''}#{window.id}",
        "page_id": PAGE_ID,
        "scheduled_for": rfc3339(window.from_s),
        "scheduled_until": rfc3339(window.to_s),
        "components": _components(facts),
        "incident_updates": [update],
    }


def _incidents(facts: StatusFacts, incidents: Iterable[PublicIncident]) -> list[Json]:
    return [_incident(facts, incident) for incident in list(incidents)[:INCIDENTS_MAX]]


def _maintenances(facts: StatusFacts, running: bool | None = None) -> list[Json]:
    return [
        _maintenance(facts, window)
        for window in facts.maintenance
        if running is None or facts.is_running(window) is running
    ]


def _summary(facts: StatusFacts) -> Json:
    return {
        "status": _status(facts),
        "components": _components(facts),
        "incidents": _incidents(facts, facts.book.unresolved),
        "scheduled_maintenances": _maintenances(facts),
    }


# Path below /api/v2/ -> the document without its page.
DOCUMENTS: Mapping[str, Callable[[StatusFacts], Json]] = {
    "summary.json": _summary,
    "status.json": lambda facts: {"status": _status(facts)},
    "components.json": lambda facts: {"components": _components(facts)},
    "incidents.json": lambda facts: {"incidents": _incidents(facts, facts.book.incidents)},
    "incidents/unresolved.json": lambda facts: {
        "incidents": _incidents(facts, facts.book.unresolved)
    },
    "scheduled-maintenances.json": lambda facts: {"scheduled_maintenances": _maintenances(facts)},
    "scheduled-maintenances/active.json": lambda facts: {
        "scheduled_maintenances": _maintenances(facts, True)
    },
    "scheduled-maintenances/upcoming.json": lambda facts: {
        "scheduled_maintenances": _maintenances(facts, False)
    },
}


def document(facts: StatusFacts, name: str) -> Json:
    """Return a document by its name in DOCUMENTS."""
    return {"page": page_json(facts), **DOCUMENTS[name](facts)}
