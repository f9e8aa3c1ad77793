"""Reports of states that a test keeps in memory."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from streams.query.report import Question, Range, ReportData, build, choose_range, combine
from streams.state.slices import Aggregate
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView
from tests.support.shelf import DAY_S, NOON, Shelf

LATER_S = NOON + 1_000 * DAY_S


def view_of(shelf: Shelf, partition: int = 0) -> PartitionView:
    totals = Aggregate.unpack(shelf.fields["totals"])
    return PartitionView(partition, shelf.offset, shelf.meta, shelf.index, totals)


def answer(shelves: list[Shelf], **asked: Any) -> dict[str, Any]:
    """Return the report that answers a question."""
    return build(query(shelves, **asked))


def query(shelves: Iterable[Any], **asked: Any) -> ReportData:
    """Answer a question; every partition must have given the same numbers to its names."""
    question = Question(**asked)
    views = [view_of(shelf, number) for number, shelf in enumerate(shelves)]
    read = [
        (view, {of: shelf.aggregate(of) for of in view.index})
        for view, shelf in zip(views, shelves, strict=True)
    ]
    names = [shelf.names() for shelf in shelves]
    assert all(one == names[0] for one in names)
    return combine(question, range_of(question, views), read, *names[0])


def range_of(question: Question, views: list[PartitionView]) -> Range:
    """Return the range of a question after all of its time, when workers have read all records."""
    read = {"at_ms": str(LATER_S * 1_000), "halted": ""}
    heartbeats = [
        Heartbeat(view.partition, {**read, "highwater": str(view.offset)}) for view in views
    ]
    return choose_range(question, views, LATER_S, heartbeats)


def rfc3339(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
