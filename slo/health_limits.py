"""Limits of the pipeline's own health, shared by rules, live board and dashboards.

Pure. Ratios are text, as PromQL writes them.
"""

from fractions import Fraction

STALE_AFTER_S = 30
BEHIND_AFTER_S = 60
ARCHIVE_STALE_AFTER_INTERVALS = 2  # of worker.archive_interval_s
MANY_WAITING = 1_000  # records in Kafka that no worker has counted
REFUSED_SHARE = "0.01"
FEWEST_REFUSED = 10
# Limits of the scrape job in deploy/prometheus/prometheus.yml, and the share of them that warns.
SAMPLE_LIMIT = 200_000
SCRAPE_TIMEOUT_S = 4
SCRAPE_NEAR_LIMIT = Fraction(8, 10)
