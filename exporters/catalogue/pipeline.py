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
    "Event time of the first event ever counted, or start of the earliest slice still kept.",
    (),
    "There is no data from before.",
)
PARTITION_OFFSET = Spec(
    "tokenpulse_partition_offset",
    "gauge",
    "Offset of the first record that the state of a partition does not include.",
    ("partition",),
    "Falls only if the state was lost or the topic was recreated.",
)
PARTITION_LAG = Spec(
    "tokenpulse_partition_lag_records",
    "gauge",
    "Records in Kafka that the state does not include yet.",
    ("partition",),
    "Absent if no live worker reports the end of the log.",
)
PARTITION_UNCOMMITTED = Spec(
    "tokenpulse_partition_uncommitted_records",
    "gauge",
    "Records in Kafka behind an open transaction, which no consumer may read yet.",
    ("partition",),
    "If it stays above 0, a transactional producer hangs, and the partition waits for it.",
)
PARTITION_WATERMARK = Spec(
    "tokenpulse_partition_watermark_timestamp_seconds",
    "gauge",
    "Largest event time in the state of a partition.",
    ("partition",),
    "Does not move without traffic, or if the pipeline is stuck: the lag shows which.",
)
PARTITION_CHECKPOINT = Spec(
    "tokenpulse_partition_checkpoint_timestamp_seconds",
    "gauge",
    "Time at which the state of a partition was last written.",
    ("partition",),
    "It is written only if there were records to count.",
)
# Published names keep their spelling: a pulse is what the code calls a heartbeat.
PARTITION_PULSE = Spec(
    "tokenpulse_partition_pulse_timestamp_seconds",
    "gauge",
    "Last heartbeat of the worker that owns a partition.",
    ("partition",),
    "If it is older than a few seconds, no worker counts this partition.",
)
PARTITION_BROKER = Spec(
    "tokenpulse_partition_broker_timestamp_seconds",
    "gauge",
    "Last answer of a Kafka broker to the worker that owns a partition.",
    ("partition",),
    "If it is older than 20 s, Kafka is away and new records wait unseen: the lag is then absent.",
)
PARTITION_FLUSH = Spec(
    "tokenpulse_partition_flush_seconds",
    "gauge",
    "Duration of the last checkpoint of a partition.",
    ("partition",),
    "Rises first when Redis becomes slow.",
)
# Taken when a checkpoint is first read: without traffic it must not grow, and raise an alert.
PARTITION_FRESHNESS = Spec(
    "tokenpulse_partition_freshness_seconds",
    "gauge",
    "Age of the newest event of a partition when this exporter first read it.",
    ("partition",),
    "Delay from event time to export, at the newest checkpoint; does not grow without traffic. It "
    "differs between exporters, and is absent after a start until the next checkpoint.",
)
PARTITION_HALTED = Spec(
    "tokenpulse_partition_halted",
    "gauge",
    "1 while a partition is halted, for a reason that an operator must look at.",
    ("partition", "reason"),
    "Absent while it is counted. `tokenpulse partitions list` shows the offset and the reason; "
    "then use `partitions resume` or `partitions move`.",
)
LOST_RECORDS = Spec(
    "tokenpulse_lost_records_total",
    "counter",
    "Records that were gone from Kafka before they were counted, or skipped by an operator.",
    ("partition",),
    "Must not rise: an outage was longer than the retention. Windows with such records are "
    "incomplete.",
)
STATE_LOSSES = Spec(
    "tokenpulse_state_losses_total",
    "counter",
    "Number of times the state of a partition was missing from Redis and rebuilt.",
    ("partition",),
    "Redis lost its data: a restart without persistence, a flush, or a key deleted by hand.",
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
    "Request ids forgotten too early for lack of room, since a worker took the partition.",
    ("partition",),
    "Duplicates of these would be counted twice: raise worker.dedup_max_ids.",
)
PARTITION_ARCHIVE = Spec(
    "tokenpulse_partition_archive_timestamp_seconds",
    "gauge",
    "Time at which the state of a partition was last archived.",
    ("partition",),
    "Absent if it never was. The archive restores a state that Redis lost.",
)
ARCHIVE_INTERVAL = Spec(
    "tokenpulse_archive_interval_seconds",
    "gauge",
    "Time between two archives of a partition's state: `worker.archive_interval_s`.",
    (),
    "Read from the exporter's settings. Absent if archiving is off.",
)
WORKER_FENCED = Spec(
    "tokenpulse_worker_fenced_flushes_total",
    "counter",
    "Checkpoints rejected because another worker owns the partition.",
    ("worker",),
    "A few during a rebalance are normal.",
)
WORKER_CONFLICTS = Spec(
    "tokenpulse_worker_conflicts_total",
    "counter",
    "Checkpoints rejected because the stored offset was not the expected one.",
    ("worker",),
    "The state was changed or restored under a running worker.",
)
WORKER_RESEEKS = Spec(
    "tokenpulse_worker_reseeks_total",
    "counter",
    "Number of seeks of a worker back to records that were skipped.",
    ("worker",),
    "Harmless if it is rare.",
)
WORKER_KEY_MISMATCHES = Spec(
    "tokenpulse_worker_key_mismatches_total",
    "counter",
    "Number of records whose key is not their `request_id`, of the first 100 of each batch.",
    ("worker",),
    "Such records may lie in any partition, and a request that is sent again to another partition "
    "counts twice: let the producer set the key.",
)
STATE_ROLLBACKS = Spec(
    "tokenpulse_state_rollbacks_total",
    "counter",
    "Number of times a worker found a stored state older than the one it had written.",
    ("worker",),
    "A Redis failover lost the latest writes. The records are read again: none is lost.",
)
WORKER_STORE_ERRORS = Spec(
    "tokenpulse_worker_store_errors_total",
    "counter",
    "Failed writes to Redis; each is tried again.",
    ("worker",),
    "Redis is slow, full or down.",
)
WORKER_MEMORY = Spec(
    "tokenpulse_worker_memory_bytes",
    "gauge",
    "Resident memory of a worker process.",
    ("worker",),
    "Of workers whose heartbeat is as new as the newest. Absent if the system does not report it.",
    "0.2.0",
)
WORKER_MEMORY_LIMIT = Spec(
    "tokenpulse_worker_memory_limit_bytes",
    "gauge",
    "Memory limit of the container of a worker process.",
    ("worker",),
    "Above it the kernel ends the process. Absent if there is no limit.",
    "0.2.0",
)
CLOCK_OFFSET = Spec(
    "tokenpulse_clock_offset_seconds",
    "gauge",
    "By how much the wall clock of a process is ahead of that of Redis; negative if it is behind.",
    ("process",),
    "`exporter`, or the name of a worker. Beyond the limit the process finalises nothing. Absent "
    "if Redis does not give its time.",
    "0.2.0",
)
CLOCK_AGREES = Spec(
    "tokenpulse_clock_agrees",
    "gauge",
    "1 if the clock of a process is proven to be right by that of Redis, else 0.",
    ("process",),
    "0 if the two differ by more than the limit, if Redis does not give its time, or if it takes "
    "too long to. At 0 nothing is finalised that needs this process.",
    "0.2.0",
)
CLOCK_OFFSET_LIMIT = Spec(
    "tokenpulse_clock_offset_limit_seconds",
    "gauge",
    "Largest difference from the clock of Redis that is accepted: `redis.max_clock_offset_s`.",
    (),
    "Read from the exporter's settings.",
    "0.2.0",
)
REDIS_MEMORY = Spec(
    "tokenpulse_redis_memory_bytes",
    "gauge",
    "Memory that Redis uses, as the workers read it every 15 s.",
    (),
    "Absent until a worker has read it.",
    "0.2.0",
)
REDIS_MEMORY_LIMIT = Spec(
    "tokenpulse_redis_memory_limit_bytes",
    "gauge",
    "`maxmemory` of Redis.",
    (),
    "At this limit Redis rejects every write. Absent if there is no limit.",
    "0.2.0",
)

# -- the exporter ----------------------------------------------------------------------------------

EXPORTER_REFRESHED = Spec(
    "tokenpulse_exporter_refreshed_timestamp_seconds",
    "gauge",
    "Time at which the state was last read successfully.",
    (),
    "Its age is the age of all numbers on this page: they are read in the background, not at each "
    "scrape.",
)
EXPORTER_REFRESH = Spec(
    "tokenpulse_exporter_refresh_seconds",
    "gauge",
    "Duration of the last successful refresh: reading, adding up and writing this page.",
    (),
    "Above exporter.refresh_interval_s the numbers are older than configured.",
)
EXPORTER_FAILURES = Spec(
    "tokenpulse_exporter_refresh_failures_total",
    "counter",
    "Refreshes that failed since the exporter started.",
    (),
    "The reason is at /readyz and in the log.",
)
EXPORTER_DROPPED = Spec(
    "tokenpulse_exporter_dropped_samples",
    "gauge",
    "Samples left out of this page, as it would have more than exporter.max_samples.",
    (),
    "At least so many: a name that is far below the limit counts with the fewest it may have. "
    "Those of the names with the smallest shares of the requests are left out first: the board and "
    "the reports still show them, but no alert of Prometheus is about them. 0 if nothing is left "
    "out.",
    "0.2.0",
)
EXPORTER_MEMORY = Spec(
    "tokenpulse_exporter_memory_bytes",
    "gauge",
    "Resident memory of the exporter process.",
    (),
    "Absent if the system does not report it.",
    "0.2.0",
)
EXPORTER_MEMORY_LIMIT = Spec(
    "tokenpulse_exporter_memory_limit_bytes",
    "gauge",
    "Memory limit of the container of the exporter process.",
    (),
    "Above it the kernel ends the process. Absent if there is no limit.",
    "0.2.0",
)
BUILD_INFO = Spec(
    "tokenpulse_build_info",
    "gauge",
    "Always 1; the label is the running version.",
    ("version",),
    "Shows which version runs where.",
)

# A heartbeat has these counters of its worker process under the keys of this mapping.
WORKER_TOTALS = {
    "fenced": WORKER_FENCED,
    "conflicts": WORKER_CONFLICTS,
    "reseeks": WORKER_RESEEKS,
    "key_mismatches": WORKER_KEY_MISMATCHES,
    "store_errors": WORKER_STORE_ERRORS,
    "rollbacks": STATE_ROLLBACKS,
}

PIPELINE = MetricGroup(
    "The pipeline",
    "What the workers do, per partition and per worker process. Times are instants: `time() - "
    "metric` is an age. The counters of a worker start at 0 with each worker process.",
    (
        STATE_READABLE,
        STATE_SINCE,
        PARTITION_OFFSET,
        PARTITION_LAG,
        PARTITION_UNCOMMITTED,
        PARTITION_WATERMARK,
        PARTITION_CHECKPOINT,
        PARTITION_PULSE,
        PARTITION_BROKER,
        PARTITION_FLUSH,
        PARTITION_FRESHNESS,
        PARTITION_HALTED,
        PARTITION_ARCHIVE,
        ARCHIVE_INTERVAL,
        LOST_RECORDS,
        STATE_LOSSES,
        DUPLICATE_WINDOW_IDS,
        DUPLICATE_WINDOW_FORGOTTEN,
        *WORKER_TOTALS.values(),
        WORKER_MEMORY,
        WORKER_MEMORY_LIMIT,
        CLOCK_OFFSET,
        CLOCK_AGREES,
        CLOCK_OFFSET_LIMIT,
        REDIS_MEMORY,
        REDIS_MEMORY_LIMIT,
    ),
)
EXPORTER = MetricGroup(
    "The exporter",
    "About the exporter process that answers the scrape.",
    (
        EXPORTER_REFRESHED,
        EXPORTER_REFRESH,
        EXPORTER_FAILURES,
        EXPORTER_DROPPED,
        EXPORTER_MEMORY,
        EXPORTER_MEMORY_LIMIT,
        BUILD_INFO,
    ),
)
