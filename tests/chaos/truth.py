"""What a log says, told by the oracle as the log grows: the truth a state is held against.

Nothing is taken from the producer's memory. The log is read back with a plain consumer, so the
truth is what the broker has, and a state is judged at whatever offset it says it has reached.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.config.settings import Kafka, Worker
from streams.events.watermark import Watermark
from streams.state.limits import event_limits, thresholds_of
from streams.state.slices import LEVELS, SliceId
from tests.support.answers import hashed
from tests.support.arrivals import RecentArrivals
from tests.support.oracle import Recount, identity, judge, row_of
from tests.support.oracle_counts import DUPLICATE, Row, told

READ_S = 60
STEP_S = LEVELS[0].step_s
Counts = dict[Any, Any]  # as `told` tells them: names -> counts, nested
Record = tuple[bytes, int]  # value, Kafka timestamp in ms


def add(counts: Counts, more: Mapping[Any, Any]) -> None:
    """Add counts to others in place."""
    for name, value in more.items():
        if isinstance(value, dict):
            add(counts.setdefault(name, {}), value)
        else:
            counts[name] = counts.get(name, 0) + value


@dataclass(slots=True)
class Partition:
    """One log, recounted up to `offset`."""

    worker: Worker
    offset: int = 0
    watermark_ms: int | None = None
    total: Counts = field(default_factory=lambda: told([]))
    unplaced: Counter[str] = field(default_factory=Counter)
    refused: set[int] = field(default_factory=set)  # offsets of what is no valid event
    _levels: list[dict[int, Counts]] = field(default_factory=lambda: [{} for _ in LEVELS])
    _arrivals: RecentArrivals = field(init=False)

    def __post_init__(self) -> None:
        self._arrivals = RecentArrivals(self.worker.dedup_window_s * 1_000)

    def read(self, records: Sequence[Record]) -> None:
        """Count the next records."""
        decoded = judge(records, Watermark.at(self.watermark_ms), event_limits(self.worker))
        reasons = {rejection.position: rejection.reason for rejection in decoded.rejections}
        self.refused.update(self.offset + position for position in reasons)
        rows: defaultdict[int, list[Row]] = defaultdict(list)
        refused: defaultdict[int, list[str]] = defaultdict(list)
        for position, (value, _) in enumerate(records):
            if position in reasons:
                self._refuse(reasons[position], refused)
                continue
            event = json.loads(value)
            row = row_of(event)
            if self.watermark_ms is None:
                self.watermark_ms = row.at_ms
                refused[_step(row.at_ms)] += self.unplaced.elements()
                self.unplaced.clear()
            name = identity(event["request_id"], row.outcome, row.final, row.at_ms)
            if self._arrivals.is_duplicate(name, row.at_ms, self.watermark_ms):
                refused[_step(self.watermark_ms)].append(DUPLICATE)
            else:
                rows[_step(row.at_ms)].append(
                    replace(row, customer=(hashed(row.customer[0]), row.customer[1]))
                )
            self.watermark_ms = max(self.watermark_ms, row.at_ms)
        self.offset += len(records)
        self._count(rows, refused)
        self._forget()

    def _refuse(self, reason: str, refused: Mapping[int, list[str]]) -> None:
        if self.watermark_ms is None:
            self.unplaced[reason] += 1
        else:
            refused[_step(self.watermark_ms)].append(reason)

    def _count(
        self, rows: Mapping[int, Iterable[Row]], refused: Mapping[int, Iterable[str]]
    ) -> None:
        limits = thresholds_of(self.worker)
        for start_s in {*rows, *refused}:
            counts = told(rows.get(start_s, ()), refused.get(start_s, ()), limits)
            add(self.total, counts)
            for level, slices in zip(LEVELS, self._levels, strict=True):
                add(slices.setdefault(start_s - start_s % level.step_s, {}), counts)

    def everything(self) -> Counts:
        """All that was counted, records that still wait for a place in time among them."""
        counts: Counts = told((), self.unplaced.elements())
        add(counts, self.total)
        return counts

    def _forget(self) -> None:
        """What no state keeps any more, and ids that are duplicates no more."""
        if self.watermark_ms is None:
            return
        watermark_s = self.watermark_ms // 1_000
        for level, slices in zip(LEVELS, self._levels, strict=True):
            for start_s in [at for at in slices if at + level.step_s <= watermark_s - level.keep_s]:
                del slices[start_s]
        self._arrivals.forget(self.watermark_ms)

    def merged_until_s(self) -> list[int]:
        """How far each level must reach."""
        until: list[int] = Recount([], [], self.watermark_ms, self.watermark_ms).merged_until_s(
            self.worker.lateness_s
        )
        return until

    def slices(self) -> dict[SliceId, Counts]:
        """Every slice that the state must hold."""
        reaches = self.merged_until_s()
        return {
            SliceId(number, start_s): counts
            for number, (level, slices) in enumerate(zip(LEVELS, self._levels, strict=True))
            for start_s, counts in slices.items()
            if number == 0 or start_s + level.step_s <= reaches[number]
        }


def _step(at_ms: int) -> int:
    at_s = at_ms // 1_000
    return at_s - at_s % STEP_S


class Truth:
    """All partitions of a topic."""

    def __init__(self, kafka: Kafka, worker: Worker) -> None:
        self._kafka, self._worker = kafka, worker
        self._partitions: dict[int, Partition] = {}

    def __getitem__(self, partition: int) -> Partition:
        return self._partitions.setdefault(partition, Partition(self._worker))

    def read_to(self, offsets: Mapping[int, int]) -> None:
        """Recount each partition up to an offset, or as far as it has been already."""
        wanted = {one: to for one, to in offsets.items() if to > self[one].offset}
        if wanted:
            for partition, records in asyncio.run(self._records(wanted)).items():
                self[partition].read(records)

    async def _records(self, wanted: Mapping[int, int]) -> dict[int, list[Record]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap, enable_auto_commit=False
        )
        await consumer.start()
        try:
            tps = {one: TopicPartition(self._kafka.topic, one) for one in wanted}
            consumer.assign(list(tps.values()))
            found: dict[int, list[Record]] = {one: [] for one in wanted}
            for one, tp in tps.items():
                consumer.seek(tp, self[one].offset)
            async with asyncio.timeout(READ_S):
                while left := [
                    tps[one]
                    for one, to in wanted.items()
                    if self[one].offset + len(found[one]) < to
                ]:
                    for tp, batch in (await consumer.getmany(*left, timeout_ms=200)).items():
                        at = self[tp.partition].offset + len(found[tp.partition])
                        rest = batch[: wanted[tp.partition] - at]
                        assert [one.offset for one in rest] == list(range(at, at + len(rest)))
                        found[tp.partition] += [(one.value or b"", one.timestamp) for one in rest]
            return found
        finally:
            await consumer.stop()
