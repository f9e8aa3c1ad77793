"""Limits of the pipeline's own health, shared by rules, live board and dashboards.

Pure. Ratios are text, as PromQL writes them.
"""

from fractions import Fraction

STALE_AFTER_S = 30
BEHIND_AFTER_S = 60
ARCHIVE_STALE_AFTER_INTERVALS = 2  # of worker.archive_interval_s
# Share of the partitions: if as many are halted, their records are what the token volume lacks.
HALTED_MOST = Fraction(1, 2)
MANY_WAITING = 1_000  # records in Kafka that no worker has counted
REFUSED_SHARE = "0.01"
FEWEST_REFUSED = 10
# A page: most of the records of two minutes, and not those of one client at night.
REFUSED_MOST = "0.5"
FEWEST_REFUSED_PAGE = 50
# Requests that two minutes hold on average; if they hold none, that is no chance.
BUSY_MIN_REQUESTS = 20
# Share of a memory limit. Redis rejects all writes at its limit, so its second threshold pages.
MEMORY_NEAR_LIMIT = Fraction(9, 10)
REDIS_NEAR_LIMIT = Fraction(8, 10)
REDIS_AT_LIMIT = Fraction(95, 100)
# Duplicates without one new request, in five minutes: more than a producer's retries in a quiet
# night, and this share of the requests of five usual minutes.
FEWEST_DUPLICATES = 100
DUPLICATES_OF_USUAL = Fraction(1, 2)
# Limits of the scrape job in deploy/prometheus/prometheus.yml, and the share of them that warns.
SAMPLE_LIMIT = 200_000
SCRAPE_TIMEOUT_S = 4
SCRAPE_NEAR_LIMIT = Fraction(8, 10)
# Messages of one integration in a quarter of an hour: more failures, and a larger share of all
# messages, are no single one that the next attempt delivers.
DELIVERY_MANY_FAILED = 2
DELIVERY_FAILED_SHARE = Fraction(1, 2)
# A source of the intake is silent if it usually had sent so many events since its last one, and
# that one is so old.
SOURCE_SILENT_EXPECTED = 20
SOURCE_SILENT_AFTER_S = 300
# A scope is new for so long, of a source that was known for so long before it.
SCOPE_NEW_S = 21_600
SOURCE_KNOWN_S = 86_400
