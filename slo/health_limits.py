"""Limits of the pipeline's own health, shared by rules, live board and dashboards.

Pure. Ratios are text, as PromQL writes them.
"""

STALE_AFTER_S = 30
BEHIND_AFTER_S = 60
ARCHIVE_STALE_AFTER_INTERVALS = 2  # of worker.archive_interval_s
MANY_WAITING = 1_000  # records in Kafka that no worker has counted
REFUSED_SHARE = "0.01"
FEWEST_REFUSED = 10
