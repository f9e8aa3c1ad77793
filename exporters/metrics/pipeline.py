"""Samples about partitions and workers: progress, age and errors.

Pure. They come from the state of the partitions, and from the last heartbeat of each partition that
a worker ever claimed.
"""

from collections.abc import Mapping, Sequence

from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page, join, label_text
from slo.health_limits import STALE_AFTER_S
from streams.clock import ClockReading
from streams.state.coverage import Coverage
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView


def add_state(page: Page, view: PartitionView, freshness_s: float | None) -> None:
    """Add the samples of a partition's stored state."""
    label, meta = label_text({"partition": str(view.partition)}), view.meta
    page.add(pipeline_metrics.PARTITION_OFFSET, label, view.offset)
    page.add(pipeline_metrics.PARTITION_CHECKPOINT, label, meta.written_at_ms / 1_000)
    if meta.watermark_ms is not None:
        page.add(pipeline_metrics.PARTITION_WATERMARK, label, meta.watermark_ms / 1_000)
    if freshness_s is not None:
        page.add(pipeline_metrics.PARTITION_FRESHNESS, label, round(freshness_s, 3))
    page.add(pipeline_metrics.LOST_RECORDS, label, meta.lost_records)
    page.add(pipeline_metrics.STATE_LOSSES, label, meta.rebuilt)


def add_completeness(
    page: Page, since_s: int, spans: Mapping[str, tuple[int, int]], coverage: Coverage
) -> None:
    """Add where each window begins, and how much of it the state knows.

    `since_s`: first event in the state. `spans`: window -> [from_s, to_s) in event time.
    """
    page.add(pipeline_metrics.STATE_SINCE, "", since_s)
    for name, (from_s, to_s) in spans.items():
        # Slices before the first event are empty because nothing was counted, not for lack of
        # traffic.
        covered_s = min(max(to_s - max(from_s, since_s), 0), to_s - from_s)
        label = label_text({"window": name})
        page.add(request_metrics.WINDOW_START, label, from_s)
        page.add(request_metrics.WINDOW_COVERAGE, label, covered_s / (to_s - from_s))
        page.add(request_metrics.WINDOW_COMPLETE, label, int(coverage.complete(from_s, to_s)))


def add_heartbeat(page: Page, sign: Heartbeat, lag: int | None) -> None:
    """Add the samples of a partition's last heartbeat; `lag` in records."""
    at_ms = sign.number("at_ms")
    if at_ms is None:
        return
    label = label_text({"partition": str(sign.partition)})
    page.add(pipeline_metrics.PARTITION_PULSE, label, at_ms / 1_000)
    if broker_at_ms := sign.number("broker_at_ms"):
        page.add(pipeline_metrics.PARTITION_BROKER, label, broker_at_ms / 1_000)
    page.add(pipeline_metrics.PARTITION_FLUSH, label, sign.number("flush_s") or 0.0)
    if lag is not None:
        page.add(pipeline_metrics.PARTITION_LAG, label, lag)
        end, readable = sign.number("highwater") or 0, sign.number("readable") or 0
        page.add(pipeline_metrics.PARTITION_UNCOMMITTED, label, int(end - readable))
    if reason := sign.text("halted"):
        page.add(pipeline_metrics.PARTITION_HALTED, join(label, label_text({"reason": reason})), 1)
    if archived_ms := sign.number("archived_ms"):
        page.add(pipeline_metrics.PARTITION_ARCHIVE, label, archived_ms / 1_000)
    if (ids := sign.number("seen_ids")) is not None:
        page.add(pipeline_metrics.DUPLICATE_WINDOW_IDS, label, int(ids))
    if (ids := sign.number("seen_forgotten")) is not None:
        page.add(pipeline_metrics.DUPLICATE_WINDOW_FORGOTTEN, label, int(ids))


def add_exporter_clock(page: Page, reading: ClockReading) -> None:
    """Add how far the clock of the exporter is from that of Redis, and the limit for all."""
    label = label_text({"process": "exporter"})
    page.add(pipeline_metrics.CLOCK_OFFSET_LIMIT, "", reading.max_offset_s)
    page.add(pipeline_metrics.CLOCK_AGREES, label, int(reading.agrees))
    if (offset_s := reading.offset_s) is not None:
        page.add(pipeline_metrics.CLOCK_OFFSET, label, round(offset_s, 3))


def add_archive_interval(page: Page, interval_s: int) -> None:
    """Add the time between two archives, unless it is 0: archiving is off."""
    if interval_s:
        page.add(pipeline_metrics.ARCHIVE_INTERVAL, "", interval_s)


def add_workers(page: Page, signs: Sequence[Heartbeat]) -> None:
    """Add the counters of worker processes, each from its newest heartbeat for any partition."""
    # A worker's counters are in the heartbeat of each of its partitions; the newest is right.
    newest: dict[str, Heartbeat] = {}
    for sign in sorted(signs, key=lambda sign: sign.number("at_ms") or 0.0):
        if worker := sign.text("worker"):
            newest[worker] = sign
    for worker, sign in sorted(newest.items()):
        for name, spec in pipeline_metrics.WORKER_TOTALS.items():
            if (count := sign.number(name)) is not None:
                page.add(spec, label_text({"worker": worker}), int(count))
    _add_running(page, newest)


def _add_running(page: Page, newest: Mapping[str, Heartbeat]) -> None:
    """Add memory and clock of the workers that run, and Redis' memory by the newest heartbeat."""
    ages_ms = {worker: sign.number("at_ms") or 0.0 for worker, sign in newest.items()}
    latest_ms = max(ages_ms.values(), default=0.0)
    for worker, sign in sorted(newest.items()):
        # The last heartbeat of a worker that ended stays stored; its memory is free, and its clock
        # may be right since.
        if latest_ms - ages_ms[worker] <= STALE_AFTER_S * 1_000:
            label = label_text({"worker": worker})
            specs = (pipeline_metrics.WORKER_MEMORY, pipeline_metrics.WORKER_MEMORY_LIMIT)
            _add_bytes(page, sign, "memory", specs, label)
            process = label_text({"process": worker})
            # Absent if its version does not report it; the offset also without Redis' time.
            if (offset_s := sign.number("clock_offset_s")) is not None:
                page.add(pipeline_metrics.CLOCK_OFFSET, process, offset_s)
            if (agrees := sign.number("clock_agrees")) is not None:
                page.add(pipeline_metrics.CLOCK_AGREES, process, int(agrees))
    # Each worker checks Redis for itself.
    reported = [sign for sign in newest.values() if sign.number("store_memory_bytes")]
    if reported:
        sign = max(reported, key=lambda sign: sign.number("at_ms") or 0.0)
        specs = (pipeline_metrics.REDIS_MEMORY, pipeline_metrics.REDIS_MEMORY_LIMIT)
        _add_bytes(page, sign, "store_memory", specs, "")


def _add_bytes(
    page: Page, sign: Heartbeat, name: str, specs: tuple[Spec, Spec], label: str
) -> None:
    """Add the memory and its limit, in bytes, that a heartbeat reports under `name`."""
    for spec, field in zip(specs, (f"{name}_bytes", f"{name}_limit_bytes"), strict=True):
        if count := sign.number(field):
            page.add(spec, label, int(count))
