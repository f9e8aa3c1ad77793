"""What Redis holds after a story of real workers, against a recount of the log: slice by slice."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from streams.config.settings import Settings
from streams.state.limits import event_limits, name_limits
from streams.state.registry import customer_hasher
from streams.state.slices import Aggregate
from tests.support.oracle import Named, named, recount
from tests.support.oracle_counts import LIMITS, readable
from tests.support.servers import Broker
from tests.support.shelf import Shelf
from tests.support.worker_process import State

# A record's value, parsed where it is JSON, and its Kafka timestamp.
Log = list[tuple[Any, int]]

# The thresholds that the recount counts with.
TARGETS: dict[str, Any] = {
    "ttft_targets_s": tuple(limit_us / 1e6 for limit_us in LIMITS.ttft_us),
    "tpot_targets_s": tuple(limit_us / 1e6 for limit_us in LIMITS.tpot_us),
    "first_visible_targets_s": tuple(limit_us / 1e6 for limit_us in LIMITS.first_visible_us),
    "output_speed_targets": tuple(1e6 / limit_us for limit_us in LIMITS.output_speed_us),
}


def logs_of(broker: Broker, settings: Settings, records: int) -> dict[int, Log]:
    """All records of the event topic, of which there are so many, by partition."""
    return {
        partition: BrokerLog(
            [(_parsed(one.value), one.timestamp) for one in log],
            by_sender=any(one.timestamp_type == 0 for one in log),
        )
        for partition, log in broker.read(settings.kafka.topic, records).items()
    }


class BrokerLog(list[tuple[Any, int]]):
    """The records of a partition; `by_sender`: senders gave their timestamps (CreateTime)."""

    def __init__(self, records: Iterable[tuple[Any, int]], by_sender: bool) -> None:
        super().__init__(records)
        self.by_sender = by_sender


def _parsed(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def recounted(settings: Settings, log: Log) -> Named:
    """A partition's log counted again, with the names as the state has them."""
    worker = settings.worker
    by_sender = isinstance(log, BrokerLog) and log.by_sender
    count = recount(log, event_limits(worker), worker.dedup_window_s * 1_000, by_sender)
    return named(count, name_limits(worker), customer_hasher(worker.customer_secret()))


def assert_recounted(client: redis.Redis, settings: Settings, logs: Mapping[int, Log]) -> None:
    """The state of each partition is that of its log, in every slice and in the totals; `settings`
    must have TARGETS."""
    for partition, log in logs.items():
        shelf = shelf_of(client, State(settings, client).key(partition))
        told = recounted(settings, log)
        expected = told.count.slices(settings.worker.lateness_s)
        assert set(shelf.index) == set(expected)
        for of, counts in expected.items():
            assert shelf.readable([of]) == counts, f"partition {partition}, {of}"
        totals = readable(Aggregate.unpack(shelf.fields["totals"]), *shelf.names())
        everything = told.count.everything()
        for part in ("series", "refused"):
            assert totals[part] == everything[part], f"partition {partition}, {part} since ever"
        assert shelf.meta.watermark_ms == told.count.watermark_ms
        assert shelf.meta.unplaced == told.count.unplaced()
        assert shelf.meta.overflowed == told.overflowed


def shelf_of(client: redis.Redis, key: str) -> Shelf:
    """A partition's hash; empty where there is none."""
    shelf = Shelf()
    found: dict[bytes, bytes] = client.hgetall(key)  # type: ignore[assignment]
    shelf.fields = {name.decode(): value for name, value in found.items()}
    shelf.offset = int(shelf.fields.pop("offset", b"0"))
    for name in ("owner", "flush"):
        shelf.fields.pop(name, None)
    return shelf
