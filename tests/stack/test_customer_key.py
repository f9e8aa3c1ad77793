"""The key of customer ids is changed under real workers that are replaced one by one."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from streams.config.settings import Settings
from streams.state.registry import customer_hasher
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    SECRET,
    START_S,
    State,
    WorkerProcess,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import AT_MS, Record, events

pytestmark = pytest.mark.slow

PARTITIONS = 2
NEW_SECRET = "another secret of the tests, as long"
token_of, new_token_of = (customer_hasher(key.encode()) for key in (SECRET, NEW_SECRET))
NEWCOMER: Record = (
    b"newcomer",
    json.dumps(
        {
            "request_id": "newcomer",
            "ended_at": AT_MS,
            "model": "small",
            "outcome": "success",
            "customer_id": "newcomer",
        }
    ).encode(),
)


def test_customers_keep_their_rows_while_workers_with_one_key_and_with_both_replace_each_other(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, PARTITIONS)
    state, partitions = State(settings, redis_client), range(PARTITIONS)
    parts = [events(1_500, seed=seed) for seed in range(4)]

    def with_keys(**keys: str) -> Settings:
        worker = settings.worker.model_copy(update={"customer_key": None, **keys})
        return settings.model_copy(update={"worker": type(worker)(**worker.model_dump())})

    def share(count: int) -> None:
        wait_until(
            lambda: len(state.workers(partitions) - {""}) == count, f"{count} share", START_S
        )

    steps = (
        settings,
        with_keys(customer_key=NEW_SECRET, customer_key_previous=SECRET),
        with_keys(customer_key=NEW_SECRET),
    )
    with ExitStack() as running:
        worker: WorkerProcess | None = None
        for number, (step, part) in enumerate(zip(steps, parts, strict=False)):
            before, worker = worker, WorkerProcess(step, tmp_path / f"{number}.log")
            running.enter_context(worker)
            share(1 if before is None else 2)
            ends = send(settings.kafka, part)
            if before is not None:
                assert before.stop() == 0
                share(1)
            # The next step needs that all customers were counted with both keys.
            state.wait_for(ends)
        state.wait_for(send(settings.kafka, [*parts[-1], NEWCOMER]))
    sent = [json.loads(value) for part in (*parts, [NEWCOMER]) for _, value in part]
    requests = Counter(
        (new_token_of if event["customer_id"] == "newcomer" else token_of)(event["customer_id"])
        for event in sent
    )
    groups = report(settings, by=("customer",))["groups"]
    counted = {group["key"]["customer"]: group["total"]["requests"] for group in groups}
    assert len(counted) == len(groups) == 51
    assert counted == requests
