"""Records that are small on the way and large when they are read."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.config.settings import Kafka
from tests.support.worker_process import WorkerProcess, dead_letters, worker_settings


@pytest.mark.parametrize("kind", ["broker", pytest.param("apache_kafka", marks=pytest.mark.stack)])
def test_a_refused_record_of_any_size_that_can_be_read_reaches_the_dead_letter_topic(
    request: pytest.FixtureRequest, kind: str, redis_server: Any, state_of: Any, tmp_path: Path
) -> None:
    server = request.getfixturevalue(kind)
    settings = worker_settings(getattr(server, "broker", server), redis_server.url)
    sizes = [1_020_000, 3_000_000]
    ends = asyncio.run(send_zeros(settings.kafka, sizes))
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(settings).wait_for(ends)
        letters = dead_letters(settings.kafka, len(sizes))
        assert sorted(len(letter.value) for letter in letters) == sizes
        assert worker.running


async def send_zeros(kafka: Kafka, sizes: list[int]) -> dict[int, int]:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        compression_type="zstd",
        max_batch_size=8_000_000,
        max_request_size=8_000_000,
    )
    await producer.start()
    try:
        for size in sizes:
            sent = await producer.send_and_wait(kafka.topic, bytes(size), partition=0)
        return {0: sent.offset + 1}
    finally:
        await producer.stop()
