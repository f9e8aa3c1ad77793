"""The source topics of a broker of our own are created before the intake asks for them."""

import asyncio

import pytest

from streams.config.settings import Settings
from streams.errors import Unavailable
from streams.kafka.topics import check_sources, create_source_topics
from tests.support.servers import Broker


def test_topics_that_are_not_there_are_created_once(broker: Broker) -> None:
    kafka, there = broker.new_kafka(), broker.new_topic(partitions=3)
    names = [there, f"{there}-new"]
    sources = [{"topic": name, "format": "events"} for name in names]
    settings = Settings(kafka=kafka, intake={"sources": sources})
    with pytest.raises(Unavailable, match=f"{there}-new"):
        asyncio.run(check_sources(kafka, names))
    for _ in range(2):
        asyncio.run(create_source_topics(settings))
        asyncio.run(check_sources(kafka, names))
