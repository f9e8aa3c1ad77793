"""Pipeline Health: whether Tokenpulse itself is well, by partition and by worker."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue import sources as source_metrics
from exporters.catalogue.spec import Spec
from grafana import series
from grafana.frame import BoardSection, Variable, board
from grafana.panels import Panel, Query, graph, number
from grafana.queries import Chosen, age_s, increase, newest, rate
from grafana.tables import Column, listing
from grafana.thresholds import BAD, GOOD, BoardLimits, Steps, bad_above, bad_below
from grafana.trust import data_verdict, trust_details
from slo.health_limits import (
    ARCHIVE_STALE_AFTER_INTERVALS,
    BEHIND_AFTER_S,
    MANY_WAITING,
    REFUSED_SHARE,
    SOURCE_SILENT_EXPECTED,
    STALE_AFTER_S,
)

SPAN = "1h"  # whose completeness the data trust tells
PARTITION = {"partition": Chosen("partition")}
_NONE_AT_ALL: Steps = ((None, GOOD), (0.5, BAD))  # an increase is not a whole number

VARIABLES = (
    Variable(
        "partition",
        "Partition",
        "Partitions of the topic.",
        pipeline_metrics.PARTITION_OFFSET,
        {},
    ),
)


def pipeline(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board. Its limits are those of the alert rules, not of a policy."""
    return board(
        "pipeline",
        "For whoever runs Tokenpulse: is everything counted, how late, who counts it, and what was "
        "refused. `docs/runbooks` says what to do about each alert.",
        (
            BoardSection("Is everything counted?", tuple(_counting_panels())),
            BoardSection("The data", (data_verdict(SPAN, width=24, height=3),)),
            trust_details(SPAN),
            BoardSection("Partitions", tuple(_partitions())),
            BoardSection("Records that were not counted", tuple(_rejection_panels())),
            BoardSection("Sources of the intake", tuple(_sources())),
            BoardSection("Workers", tuple(_workers())),
            BoardSection("Exporters and windows", tuple(_exporters())),
        ),
        VARIABLES,
        since="now-1h",
        refresh="10s",
    )


def _counting_panels() -> Iterator[Panel]:
    halted = newest(pipeline_metrics.PARTITION_HALTED, ("partition", "reason"))
    for title, about, expr in (
        (
            "Partitions halted",
            "Partitions that a worker refuses to count until a person has looked.",
            # 0 instead of no value if an exporter reads the state and no partition is halted.
            f"count({halted} == 1) or 0 * {newest(pipeline_metrics.STATE_READABLE)}",
        ),
        (
            "Records lost",
            "Gone from Kafka before they were counted, over the time shown.",
            increase(pipeline_metrics.LOST_RECORDS),
        ),
        (
            "State lost",
            "Times the state of a partition was gone from Redis, over the time shown.",
            increase(pipeline_metrics.STATE_LOSSES),
        ),
        (
            "Records refused",
            "Put on the dead-letter topic, over the time shown.",
            increase(request_metrics.REFUSED_TOTAL),
        ),
        (
            "Duplicates",
            "Recognised and not counted again, over the time shown.",
            increase(request_metrics.DUPLICATES_TOTAL),
        ),
        (
            "Labels folded",
            "Events counted under __other__, over the time shown.",
            increase(request_metrics.FOLDED_TOTAL),
        ),
    ):
        # Duplicates are recognised as intended, so no number of them is bad.
        thresholds = ((None, GOOD),) if title == "Duplicates" else _NONE_AT_ALL
        yield number(title, about, expr, "short", thresholds, width=4, decimals=0)


def _partitions() -> Iterator[Panel]:
    def each(spec: Spec) -> str:
        return newest(spec, ("partition",), **PARTITION)

    for title, about, expr, unit, thresholds in (
        (
            "Lag of each partition",
            "Records in Kafka that the state does not include yet.",
            each(pipeline_metrics.PARTITION_LAG),
            "short",
            bad_above(MANY_WAITING),
        ),
        (
            "Freshness of each partition",
            "Age of the newest event when it was first exported.",
            each(pipeline_metrics.PARTITION_FRESHNESS),
            "s",
            bad_above(BEHIND_AFTER_S),
        ),
        (
            "Time to write a checkpoint",
            "Rises with a slow Redis, before anything else shows it.",
            each(pipeline_metrics.PARTITION_FLUSH),
            "s",
            None,
        ),
    ):
        yield graph(title, about, (Query(expr, "{{partition}}"),), unit, *_optional(thresholds))
    archived = each(pipeline_metrics.PARTITION_ARCHIVE)
    yield listing(
        "Every partition now",
        "Ages in seconds. A watermark stands still in silence and when the pipeline is stuck: the "
        "lag tells which.",
        ("partition",),
        (
            Column("Offset", each(pipeline_metrics.PARTITION_OFFSET), "none"),
            Column(
                "Lag",
                each(pipeline_metrics.PARTITION_LAG),
                "short",
                bad_above(MANY_WAITING),
            ),
            Column("Uncommitted", each(pipeline_metrics.PARTITION_UNCOMMITTED), "short"),
            Column(
                "Worker age",
                age_s(each(pipeline_metrics.PARTITION_PULSE)),
                "s",
                bad_above(STALE_AFTER_S),
                1,
            ),
            Column(
                "Checkpoint age",
                age_s(each(pipeline_metrics.PARTITION_CHECKPOINT)),
                "s",
                decimals=1,
            ),
            Column(
                "Watermark age", age_s(each(pipeline_metrics.PARTITION_WATERMARK)), "s", decimals=1
            ),
            Column("Archive age", age_s(archived), "s", decimals=0),
            Column(
                "Archive age / interval",
                f"({age_s(archived)}) / scalar({newest(pipeline_metrics.ARCHIVE_INTERVAL)})",
                "none",
                bad_above(ARCHIVE_STALE_AFTER_INTERVALS),
                1,
            ),
            Column("Ids remembered", each(pipeline_metrics.DUPLICATE_WINDOW_IDS), "short"),
        ),
        width=24,
        height=7,
    )
    yield listing(
        "Halted partitions",
        "Empty when all is well. `tokenpulse partitions list` says where and why.",
        ("partition", "reason"),
        (
            Column(
                "halted",
                newest(pipeline_metrics.PARTITION_HALTED, ("partition", "reason"), **PARTITION),
                "bool_yes_no",
            ),
        ),
        width=24,
        height=4,
    )


def _optional(thresholds: Steps | None) -> tuple[Steps, ...]:
    return () if thresholds is None else (thresholds,)


def _rejection_panels() -> Iterator[Panel]:
    yield graph(
        "Refused by reason",
        "Records a second that were put on the dead-letter topic: a producer breaks the event "
        "contract.",
        (Query(rate(request_metrics.REFUSED_TOTAL, ("reason",)), "{{reason}}"),),
        "cps",
    )
    yield graph(
        "Refused share",
        "Of all records; red where a rule tells of it.",
        (
            # Requests do not include rejected records, so all records are the sum of both.
            Query(
                f"{rate(request_metrics.REFUSED_TOTAL)} / ({rate(request_metrics.REFUSED_TOTAL)}"
                f" + ({series.requests_per_s('fleet', ())}))",
                "refused",
            ),
        ),
        "percentunit",
        bad_above(float(REFUSED_SHARE)),
    )
    yield graph(
        "Duplicates and folded labels",
        "Records a second that were recognised as seen before, and events counted under __other__.",
        (
            Query(rate(request_metrics.DUPLICATES_TOTAL), "duplicates"),
            Query(rate(request_metrics.FOLDED_TOTAL, ("dimension",)), "folded {{dimension}}"),
        ),
        "cps",
    )


def _sources() -> Iterator[Panel]:
    by = ("source",)

    def last_hour(spec: Spec) -> str:
        return newest(spec, by, window=SPAN)

    yield listing(
        "Every source now",
        "What each sender and source topic sent in the last hour. A source is silent if it usually "
        "had sent many events since its last one; sampled traces make all counts too small.",
        by,
        (
            Column(
                "Last event",
                age_s(newest(source_metrics.SOURCE_LAST_EVENT, by)),
                "s",
                decimals=0,
            ),
            Column(
                "Expected since then",
                newest(source_metrics.SOURCE_EXPECTED, by),
                "short",
                bad_above(SOURCE_SILENT_EXPECTED),
                0,
            ),
            Column("Records", last_hour(source_metrics.SOURCE_RECORDS), "short"),
            Column("Events", last_hour(source_metrics.SOURCE_EVENTS), "short"),
            Column("Rejected", last_hour(source_metrics.SOURCE_REJECTED), "short"),
            Column(
                "With usage",
                f"{last_hour(source_metrics.SOURCE_WITH_USAGE)}"
                f" / {last_hour(source_metrics.SOURCE_SUCCESSES)}",
                "percentunit",
                decimals=1,
            ),
            Column("Of a sample", last_hour(source_metrics.SOURCE_SAMPLED), "short", _NONE_AT_ALL),
        ),
        unknown="no intake",
        width=14,
        height=7,
    )
    yield listing(
        "Scopes that no profile takes",
        "Spans in the last hour whose scope no profile of the source reads, and since when they "
        "come. Usual for databases and HTTP; requests in them are not counted.",
        ("source", "span_scope"),
        (
            Column(
                "Spans",
                newest(source_metrics.SOURCE_UNREAD_SPANS, ("source", "span_scope"), window=SPAN),
                "short",
            ),
            Column(
                "Known for",
                age_s(newest(source_metrics.SOURCE_SCOPE_SINCE, ("source", "span_scope"))),
                "dtdurations",
            ),
        ),
        unknown="none",
        width=10,
        height=7,
    )


def _workers() -> Iterator[Panel]:
    yield graph(
        "Checkpoints refused",
        "Fenced: another worker owns the partition, as at a rebalance. Conflicts: the state was "
        "changed under a running worker. Rollbacks: Redis was set back.",
        (
            Query(rate(pipeline_metrics.WORKER_FENCED, ("worker",)), "fenced {{worker}}"),
            Query(rate(pipeline_metrics.WORKER_CONFLICTS, ("worker",)), "conflict {{worker}}"),
            Query(rate(pipeline_metrics.STATE_ROLLBACKS, ("worker",)), "rollback {{worker}}"),
        ),
        "cps",
    )
    yield graph(
        "Failed writes and reseeks",
        "Each failed write to Redis is tried again; a reseek goes back for records that were "
        "skipped.",
        (
            Query(rate(pipeline_metrics.WORKER_STORE_ERRORS, ("worker",)), "failed {{worker}}"),
            Query(rate(pipeline_metrics.WORKER_RESEEKS, ("worker",)), "reseek {{worker}}"),
        ),
        "cps",
    )
    yield graph(
        "Request ids forgotten early",
        "Ids a second for which there was no room: duplicates of these would count twice.",
        (
            Query(
                rate(pipeline_metrics.DUPLICATE_WINDOW_FORGOTTEN, ("partition",), **PARTITION),
                "{{partition}}",
            ),
        ),
        "cps",
    )


def _exporters() -> Iterator[Panel]:
    yield graph(
        "Exporters that answer",
        "Scrape targets by instance: 1 answers, 0 does not.",
        # Prometheus writes this series itself, so it is not in the catalogue.
        (Query('up{job=~"$job"}', "{{instance}}"),),
        "bool_yes_no",
        most=1,
        width=6,
    )
    yield graph(
        "Time to refresh",
        "Reading the state, adding up and writing the page.",
        (
            Query(newest(pipeline_metrics.EXPORTER_REFRESH), "refresh"),
            Query('max(scrape_duration_seconds{job=~"$job"})', "scrape"),
        ),
        "s",
        width=6,
    )
    yield graph(
        "Failed refreshes",
        "A second. The reason is at /readyz and in the log.",
        (Query(rate(pipeline_metrics.EXPORTER_FAILURES), "failed"),),
        "cps",
        width=6,
    )
    yield graph(
        "Samples a scrape",
        "Size of the page; a page over the limits of the scrape is refused as a whole.",
        (Query('max by (instance) (scrape_samples_scraped{job=~"$job"})', "{{instance}}"),),
        "short",
        width=6,
    )
    yield listing(
        "Windows",
        "What each window can say: whether records are known to be missing, how much of it lies "
        "after the first event, and where it begins.",
        ("window",),
        (
            Column(
                "Complete",
                newest(request_metrics.WINDOW_COMPLETE, ("window",)),
                "bool_yes_no",
                bad_below(1),
            ),
            Column("Coverage", newest(request_metrics.WINDOW_COVERAGE, ("window",)), "percentunit"),
            Column(
                "Length", age_s(newest(request_metrics.WINDOW_START, ("window",))), "dtdurations"
            ),
        ),
        width=14,
    )
    yield listing(
        "Versions",
        "What runs where, and since when the state holds anything, in seconds.",
        ("version",),
        (Column("Runs", newest(pipeline_metrics.BUILD_INFO, ("version",)), "bool_yes_no"),),
        width=5,
    )
    yield number(
        "State reaches back",
        "To the first event ever counted, or the earliest slice still kept.",
        age_s(newest(pipeline_metrics.STATE_SINCE)),
        "dtdurations",
        width=5,
        height=8,
    )
