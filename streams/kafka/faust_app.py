"""A Faust app that reads whole batches: the settings that worker and intake share.

A comment gives the reason for each Faust setting that differs from its default.
"""

from typing import Any

import faust
from yarl import URL

from streams.config.settings import Kafka

TEN_YEARS_S = 315_360_000.0


class App(faust.App):
    """A Faust app without files: Faust would create a directory for its tables."""

    def _create_directories(self) -> None:
        pass


def broker_urls(kafka: Kafka) -> list[URL]:
    """Return the addresses of the brokers as Faust takes them."""
    return [URL(f"aiokafka://{address.strip()}") for address in kafka.bootstrap.split(",")]


def create_batch_app(kafka: Kafka, group: str, **settings: Any) -> App:
    """Return an app of a consumer group; its transport is still Faust's own."""
    return App(
        group,
        broker=broker_urls(kafka),
        # `tokenpulse topics create` creates topics, with our partitions, retention and sizes.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # With 0 and no tables the assignor is a plain round robin.
        table_standby_replicas=0,
        web_enabled=False,
        # A batch that waits for a silent store must not hold up a rebalance.
        stream_wait_empty=False,
        # Counts batches of up to fetch_max_partition_bytes each.
        stream_buffer_maxsize=2,
        stream_processing_timeout=60,
        key_serializer="raw",
        value_serializer="raw",
        # A worker that is idle for longer would leave the group for good.
        broker_max_poll_interval=TEN_YEARS_S,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_interval_s,
        broker_rebalance_timeout=60,
        broker_request_timeout=90,
        broker_check_crcs=True,
        producer_request_timeout=30,
        producer_acks=-1,
        producer_compression_type="gzip",  # every Kafka client reads it without extra packages
        producer_linger=0.02,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        **settings,
    )
