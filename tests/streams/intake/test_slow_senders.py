"""An intake process among senders that are many, slow or silent."""

import json
import time
from http import HTTPStatus
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.support.event_samples import EVENT
from tests.support.intake_process import IntakeProcess
from tests.support.servers import Broker, wait_until
from tests.support.slow_clients import open_files, slow_clients, slowest

MOST_S = 4.0
SHORT = {"idle_timeout_s": 2, "header_timeout_s": 2, "body_timeout_s": 3}


def send_s(intake: IntakeProcess) -> float:
    """Send an event; return the seconds until Kafka has it."""
    event = {**EVENT, "request_id": str(time.time_ns()), "ended_at": int(time.time() * 1_000)}
    headers = {"Content-Type": "application/json"}
    request = Request(f"{intake.url}/v1/events", json.dumps(event).encode(), headers)
    began_s = time.monotonic()
    with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
        assert answer.status == HTTPStatus.OK
    return time.monotonic() - began_s


@pytest.mark.parametrize("kind", ["idle", "headers", "body"])
def test_slow_senders_of_each_kind_keep_no_other_out_and_are_closed_in_time(
    broker: Broker, kind: str
) -> None:
    with IntakeProcess(broker.new_kafka(), connections=SHORT) as intake:
        send_s(intake)
        before = open_files(intake.pid)
        # The bodies of the slow ones are 5 GB together, more than may be in transit.
        with slow_clients(intake.port, kind, 250):
            assert slowest(lambda: send_s(intake), 10) < MOST_S
            wait_until(lambda: open_files(intake.pid) <= before + 2, "closed after 3 s", 60)
        assert send_s(intake) < MOST_S
