"""Requests around requests: a framework, its client and a gateway may write one each.

Pure. All of them repeat the usage of one call, so the innermost one counts. An outer span ends
after the inner one: it is in the same record, or mostly in a later one. If another process sent it
earlier, it has counted, and the inner one is left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set

from streams.intake.otlp.spans import Span, SpanGroup

_MOST_STEPS = 50  # from a span to its root; parents of a record may form a circle
_MOST_EARLIER = 50_000
_NO_NAMES = frozenset[str]()


class _RecentIds:
    """The last ids that were added: at least half of `most`.

    They are in two sets, of which the older one is dropped as a whole. Threads that read records
    at the same time need no lock: the sets change places in one assignment.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._newer_older: tuple[set[str], set[str]] = set(), set()

    def among(self, ids: Set[str]) -> set[str]:
        """Return those of the ids that were added."""
        newer, older = self._newer_older
        return set(ids & newer) | (ids & older)

    def add(self, ids: Iterable[str]) -> None:
        """Add ids, and drop the oldest half if there are too many."""
        newer, _ = self._newer_older
        if len(newer) >= self._half:
            self._newer_older = set(), newer
        self._newer_older[0].update(ids)


class NestedRequests:
    """Finds the requests that repeat another one, of the same record or of earlier ones."""

    def __init__(self, most: int = _MOST_EARLIER) -> None:
        self._above = _RecentIds(most)  # the spans right above requests
        self._counted = _RecentIds(most)  # and requests below a counted one

    def find(self, requests: Mapping[str, Span], groups: Iterable[SpanGroup]) -> set[str]:
        """Return the ids of the requests of a record that repeat another one.

        These have a request inside, or are right inside of one that an earlier record had.
        `requests`: by id. `groups`: all spans of the record, as those between two requests tell
        that one is inside of the other.
        """
        above = {
            name: _id(span.trace_id, span.parent_id)
            for name, span in requests.items()
            if span.parent_id
        }
        counted = self._counted.among(set(above.values()))
        # A damaged span may be its own parent.
        inner = {name for name, parent in above.items() if parent in counted and parent != name}
        outer = self._find_outer(requests, groups)
        self._counted.add(requests.keys() - (outer - inner))
        self._above.add(above.values())
        return inner | outer

    def _find_outer(self, requests: Mapping[str, Span], groups: Iterable[SpanGroup]) -> set[str]:
        # One that has counted is sent again, as its sender got no answer: it counts again, as the
        # request inside of it was left out meanwhile.
        outer = self._above.among(requests.keys()) - self._counted.among(requests.keys())
        traces = Counter([span.trace_id for span in requests.values()])
        # Most traces have one request, and most records only such traces.
        if len(traces) == len(requests):
            return outer
        shared = {trace_id for trace_id, count in traces.items() if count > 1}
        parents: dict[str, str] = {}
        for group in groups:
            for span in group.spans(_NO_NAMES):
                if span is not None and span.trace_id in shared:
                    parents[_id(span.trace_id, span.span_id)] = span.parent_id
        for name, span in requests.items():
            above = span.parent_id
            for _ in range(_MOST_STEPS):
                if not above:
                    break
                parent = _id(span.trace_id, above)
                if parent in requests and parent != name:
                    outer.add(parent)
                above = parents.get(parent, "")
        return outer


def _id(trace_id: str, span_id: str) -> str:
    return f"{trace_id}/{span_id}"
