"""The metrics about Tokenpulse itself: pipeline and exporter. A part of the catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

# -- the pipeline ----------------------------------------------------------------------------------

STATE_READABLE = Spec(
    "tokenpulse_state_readable",
    "gauge",
    "1 if the state could be read from Redis at the last refresh, else 0.",
    (),
    "At 0 all windows and totals are absent: unknown is not healthy.",
)
STATE_SINCE = Spec(
    "tokenpulse_state_since_timestamp_seconds",
    "gauge",
    "First event ever counted, or the earliest slice still kept, in event time.",
    (),
    "Nothing is known from before.",
)
PARTITION_OFFSET = Spec(
    "tokenpulse_partition_offset",
    "gauge",
    "Offset of the first record that the state of a partition does not include.",
    ("partition",),
    "Falls only when the state was lost or the topic made again.",
)
PARTITION_LAG = Spec(
    "tokenpulse_partition_lag_records",
    "gauge",
    "Records in Kafka that the state does not include yet.",
    ("partition",),
    "Absent where no live worker says how far the log reaches.",
)
PARTITION_UNCOMMITTED = Spec(
    "tokenpulse_partition_uncommitted_records",
    "gauge",
    "Records in Kafka behind a transaction that is still open: nobody may read them yet.",
    ("partition",),
    "Stays above 0: a transactional producer hangs, and the partition with it.",
)
PARTITION_WATERMARK = Spec(
    "tokenpulse_partition_watermark_timestamp_seconds",
    "gauge",
    "Largest event time in the state of a partition.",
    ("partition",),
    "Stands still in silence and when the pipeline is stuck: the lag tells which.",
)
PARTITION_CHECKPOINT = Spec(
    "tokenpulse_partition_checkpoint_timestamp_seconds",
    "gauge",
    "When the state of a partition was last written.",
    ("partition",),
    "Written only when there was something to count.",
)
PARTITION_PULSE = Spec(
    "tokenpulse_partition_pulse_timestamp_seconds",
    "gauge",
    "Last sign of life of the worker that owns a partition.",
    ("partition",),
    "Older than a few seconds: nobody counts this partition.",
)
PARTITION_FLUSH = Spec(
    "tokenpulse_partition_flush_seconds",
    "gauge",
    "How long the last checkpoint of a partition took to write.",
    ("partition",),
    "Rises with a slow Redis, before anything else shows it.",
)
PARTITION_FRESHNESS = Spec(
    "tokenpulse_partition_freshness_seconds",
    "gauge",
    "Age of the newest event of a partition when this exporter first had it.",
    ("partition",),
    "Event time to export, of the newest checkpoint; does not grow in silence. Two exporters "
    "differ in it, and after a start it is absent until the next checkpoint.",
)
PARTITION_HALTED = Spec(
    "tokenpulse_partition_halted",
    "gauge",
    "1 while a worker refuses to count a partition, for a reason that a person must look at.",
    ("partition", "reason"),
    "Absent while it is counted. `tokenpulse partitions list` says where and why; then `partitions "
    "resume` or `partitions move`.",
)
LOST_RECORDS = Spec(
    "tokenpulse_lost_records_total",
    "counter",
    "Records gone from Kafka before they were counted, or skipped by an operator.",
    ("partition",),
    "Must not rise: an outage was longer than the retention. Windows with such records are not "
    "complete.",
)
STATE_LOSSES = Spec(
    "tokenpulse_state_losses_total",
    "counter",
    "Times the state of a partition was gone from Redis and built again.",
    ("partition",),
    "Redis lost its data: restarted without persistence, flushed, or a key deleted by hand.",
)
DUPLICATE_WINDOW_IDS = Spec(
    "tokenpulse_duplicate_window_ids",
    "gauge",
    "Request ids that are remembered to recognise duplicates.",
    ("partition",),
    "Grows with traffic; at worker.dedup_max_ids the oldest are forgotten early.",
)
DUPLICATE_WINDOW_FORGOTTEN = Spec(
    "tokenpulse_duplicate_window_forgotten_total",
    "counter",
    "Request ids forgotten before their time, for want of room, since a worker took the partition.",
    ("partition",),
    "Duplicates of these would be counted twice: raise worker.dedup_max_ids.",
)
PARTITION_ARCHIVE = Spec(
    "tokenpulse_partition_archive_timestamp_seconds",
    "gauge",
    "When the state of a partition was last archived.",
    ("partition",),
    "Absent if it never was. What is lost with Redis is built again from there.",
)
WORKER_FENCED = Spec(
    "tokenpulse_worker_fenced_flushes_total",
    "counter",
    "Checkpoints refused because another worker owns the partition.",
    ("worker",),
    "A few at a rebalance are the protection at work.",
)
WORKER_CONFLICTS = Spec(
    "tokenpulse_worker_conflicts_total",
    "counter",
    "Checkpoints refused because the stored offset was not the expected one.",
    ("worker",),
    "The state was changed or restored under a running worker.",
)
WORKER_RESEEKS = Spec(
    "tokenpulse_worker_reseeks_total",
    "counter",
    "Times a worker had to go back for records that were skipped.",
    ("worker",),
    "Harmless once in a while.",
)
STATE_ROLLBACKS = Spec(
    "tokenpulse_state_rollbacks_total",
    "counter",
    "Times a worker found the stored state set back behind what it had written.",
    ("worker",),
    "A Redis failover lost its latest writes. The records are read again: nothing is lost.",
)
WORKER_STORE_ERRORS = Spec(
    "tokenpulse_worker_store_errors_total",
    "counter",
    "Failed writes to Redis; each is tried again.",
    ("worker",),
    "Redis is slow, full or away.",
)

# -- the exporter ----------------------------------------------------------------------------------

EXPORTER_REFRESHED = Spec(
    "tokenpulse_exporter_refreshed_timestamp_seconds",
    "gauge",
    "When the state was last read with success: the age of everything here.",
    (),
    "Numbers are read from Redis in the background, not at each scrape.",
)
EXPORTER_REFRESH = Spec(
    "tokenpulse_exporter_refresh_seconds",
    "gauge",
    "How long the last successful refresh took, reading, adding up and writing this page.",
    (),
    "Above exporter.refresh_interval_s the numbers get older than configured.",
)
EXPORTER_FAILURES = Spec(
    "tokenpulse_exporter_refresh_failures_total",
    "counter",
    "Refreshes that failed since the exporter started.",
    (),
    "The reason is at /readyz and in the log.",
)
BUILD_INFO = Spec(
    "tokenpulse_build_info",
    "gauge",
    "Always 1; the label says which version runs.",
    ("version",),
    "Which version runs where.",
)

# A worker's pulse counts these under their own names, per process.
WORKER_TOTALS = {
    "fenced": WORKER_FENCED,
    "conflicts": WORKER_CONFLICTS,
    "reseeks": WORKER_RESEEKS,
    "store_errors": WORKER_STORE_ERRORS,
    "rollbacks": STATE_ROLLBACKS,
}

PIPELINE = MetricGroup(
    "The pipeline",
    "What the workers do, per partition and per worker process. Times are points in time: "
    "`time() - metric` is an age. Worker counters begin again with each worker process.",
    (
        STATE_READABLE,
        STATE_SINCE,
        PARTITION_OFFSET,
        PARTITION_LAG,
        PARTITION_UNCOMMITTED,
        PARTITION_WATERMARK,
        PARTITION_CHECKPOINT,
        PARTITION_PULSE,
        PARTITION_FLUSH,
        PARTITION_FRESHNESS,
        PARTITION_HALTED,
        PARTITION_ARCHIVE,
        LOST_RECORDS,
        STATE_LOSSES,
        DUPLICATE_WINDOW_IDS,
        DUPLICATE_WINDOW_FORGOTTEN,
        *WORKER_TOTALS.values(),
    ),
)
EXPORTER = MetricGroup(
    "The exporter",
    "About the process that answers the scrape.",
    (EXPORTER_REFRESHED, EXPORTER_REFRESH, EXPORTER_FAILURES, BUILD_INFO),
)
