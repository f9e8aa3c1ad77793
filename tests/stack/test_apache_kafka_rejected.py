"""Rejected records on Apache Kafka: read by a plain client, and by `tokenpulse rejected`."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.apache_kafka import ApacheKafka
from tests.support.command import assert_one_line, run
from tests.support.servers import RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    WorkerProcess,
    dead_letters,
    send_raw,
    worker_settings,
)

pytestmark = pytest.mark.stack

GZIP = 1  # as in a batch's header
REJECTED, FAULTY = 200, 3

# As a user without the packages for zstd, lz4 and snappy would read the topic.
PLAIN_CLIENT = """
import asyncio, sys
sys.modules["cramjam"] = None
from aiokafka import AIOKafkaConsumer

async def read(bootstrap, topic, wanted):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        for _ in range(wanted):
            print((await asyncio.wait_for(consumer.getone(), 30)).value.decode())
    finally:
        await consumer.stop()

asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def broken(number: int) -> bytes:
    """A record of some size that says nothing new, so that it is compressed."""
    return json.dumps({"request_id": f"r{number}", "padding": "x" * 2_000}).encode()


@pytest.fixture(scope="module")
def settings(
    apache_kafka: ApacheKafka,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """A topic of which a worker rejected records, and fields of others."""
    settings = worker_settings(apache_kafka.broker, redis_server.url)
    good = {"ended_at": 1_767_225_600_000, "model": "m", "status_code": 500}
    faulty = [
        (b"f", json.dumps({**good, "request_id": f"f{at}", "ttft_ms": "a-secret"}).encode())
        for at in range(FAULTY)
    ]
    send_raw(settings.kafka, [(b"k", broken(at)) for at in range(REJECTED)])
    send_raw(settings.kafka, faulty)
    with WorkerProcess(settings, tmp_path_factory.mktemp("rejected") / "worker.log"):
        dead_letters(settings.kafka, REJECTED)
        wait_until(lambda: len(shown(settings, "--reason", "bad_type")) == FAULTY, "heard", START_S)
    return settings


def shown(settings: Settings, *options: object) -> Any:
    done = run("rejected", "--format", "json", *options, settings=settings)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_plain_client_reads_the_compressed_dead_letters(
    apache_kafka: ApacheKafka, settings: Settings, tmp_path: Path
) -> None:
    batches = apache_kafka.record_batches(settings.kafka.dlq_topic)
    assert {batch.codec for batch in batches} == {GZIP}
    (tmp_path / "plain.py").write_text(PLAIN_CLIENT)
    command = [sys.executable, str(tmp_path / "plain.py"), settings.kafka.bootstrap]
    done = subprocess.run(
        [*command, settings.kafka.dlq_topic, str(REJECTED)],
        capture_output=True,
        check=True,
        timeout=120,
    )
    # A record may be there twice, so the set is compared.
    read = set(done.stdout.splitlines())
    assert read <= {broken(at) for at in range(REJECTED)}
    assert len(read) > REJECTED / 2


def test_rejected_records_and_fields_are_shown_with_reason_and_fix(settings: Settings) -> None:
    everything = shown(settings, "--last", 2 * REJECTED)
    assert Counter(document["reason"] for document in everything) == {
        "missing_field": REJECTED,
        "bad_type": FAULTY,
    }
    assert [document["offset"] for document in everything] == [*range(REJECTED + FAULTY)]
    assert all(document["fix"] for document in everything)
    assert "secret" not in json.dumps(everything)
    [last] = shown(settings, "--last", 1, "--show-values")
    assert (last["field"], last["value"], last["key"]) == ("ttft_ms", '"a-secret"', "f")
    text = run("rejected", "--reason", "missing_field", "--last", 2, settings=settings).stdout
    assert text.count("missing_field") == 2


def test_an_empty_topic_and_a_server_that_is_down_are_one_line(
    settings: Settings, apache_kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    empty = worker_settings(apache_kafka.broker, redis_server.url)
    done = run("rejected", settings=empty)
    assert (done.exit_code, done.stdout) == (0, "no rejected records or fields\n")
    update = {"bootstrap": "127.0.0.1:1"}
    down = empty.model_copy(update={"kafka": empty.kafka.model_copy(update=update)})
    assert_one_line(run("rejected", settings=down), "127.0.0.1:1")
