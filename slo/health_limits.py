"""Limits of the pipeline's own health, shared by rules, live board and dashboards.

Pure. Ratios are text, as PromQL writes them.
"""

from fractions import Fraction

STALE_AFTER_S = 30
BEHIND_AFTER_S = 60
ARCHIVE_STALE_AFTER_INTERVALS = 2  # of worker.archive_interval_s
# Share of the partitions. With this many halted, a drop of the token volume is attributed to them.
HALTED_MOST = Fraction(1, 2)
MANY_WAITING = 1_000  # records in Kafka that no worker has counted
REFUSED_SHARE = "0.01"
FEWEST_REFUSED = 10
# A page needs this share of the records of two minutes, and more than one client sends at night.
REFUSED_MOST = "0.5"
FEWEST_REFUSED_PAGE = 50
# Average number of requests in two minutes. From this number on, none at all is not by chance.
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
MAX_LABEL_BYTES = 256
# Characters of all samples. body_size_limit, 64 MB, has room for exemplars, and for names whose
# characters have several bytes.
MAX_PAGE_LENGTH = 40_000_000
SCRAPE_NEAR_LIMIT = Fraction(8, 10)
# Failed messages of one integration in 15 minutes, and their share of all messages. A page needs
# more of both, as the next attempt mostly delivers a single message.
DELIVERY_MANY_FAILED = 2
DELIVERY_FAILED_SHARE = Fraction(1, 2)
# Requests that the intake answered with 503 in two minutes; a single sender sends again every few
# seconds.
INTAKE_FEWEST_UNAVAILABLE = 3
# A ticket needs this share of five minutes' answers, and so many.
INTAKE_UNAVAILABLE_SHARE = Fraction(1, 100)
INTAKE_FEWEST_UNAVAILABLE_TICKET = 10
# Share of a day's requests. If the intake sent this much, a drop of the token volume while it is
# down is attributed to it.
INTAKE_MOST = Fraction(1, 2)
# A source of the intake is silent if this many events are expected since its last one, and its last
# event is older than the second limit.
SOURCE_SILENT_EXPECTED = 20
SOURCE_SILENT_AFTER_S = 300
# A scope counts as new for the first limit, if its source was known for the second limit before.
SCOPE_NEW_S = 21_600
SOURCE_KNOWN_S = 86_400
