"""Names of policies that the workers must always count by themselves.

Pure.
"""

from collections import defaultdict
from collections.abc import Iterable

from slo.policy.policy import Policy
from streams.state.registry import ReservedNames


def reserved_names(policies: Iterable[Policy]) -> ReservedNames:
    """Return the names in the scopes and exclusions of all objectives."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for policy in policies:
        for objective in policy.objectives:
            excluded = [one.where for one in policy.exclusions_of(objective)]
            for where in (objective.scope, *excluded):
                for dimension, selected in where.names().items():
                    names[dimension].update(selected)
                names["service_tier"].update(where.requested_service_tier)
    return ReservedNames(**{dimension: frozenset(found) for dimension, found in names.items()})
