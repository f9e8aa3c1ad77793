"""From a fault of the intake to a person: a real intake, the real Prometheus and Alertmanager."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.config.settings import Kafka, Settings
from tests.support.alerting_stack import (
    PROMETHEUS,
    Pages,
    alertmanager_config,
    prometheus,
    soon_firing,
)
from tests.support.alertmanager import AMTOOL, SERVER, Alertmanager, Receiver
from tests.support.event_samples import EVENT
from tests.support.intake_process import IntakeProcess
from tests.support.paths import ROOT
from tests.support.programs import needed_programs
from tests.support.servers import wait_until
from tokenpulse.local.stack import LocalStack

pytestmark = needed_programs(prometheus=PROMETHEUS, amtool=AMTOOL, alertmanager=SERVER)
RULES = ROOT / "alerts" / "generated" / "prometheus"
INTAKE = {"alertname": "TokenpulseIntakeDown"}
STUCK, DOWN = INTAKE | {"cause": "delivery"}, INTAKE | {"cause": "down"}
# There is no exporter in this test.
NO_EXPORTER = {"alertname": "TokenpulseExporterDown", "cause": "no_target"}
FOR_S = 20  # of each alert; two minutes as shipped
PAGE_S = 180


@contextmanager
def sending(url: str) -> Iterator[None]:
    """Send an event every second, also while it fails."""
    ended = threading.Event()

    def send() -> None:
        number = 0
        while not ended.wait(1):
            number += 1
            body = {
                **EVENT,
                "request_id": f"r-{number}",
                "ended_at": int(time.time() * 1_000),
            }
            request = urllib.request.Request(
                f"{url}/v1/events", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except OSError:  # 503 too: a sender goes on
                continue

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def delivers_events(prometheus_url: str) -> bool:
    """Return whether Prometheus has seen that events were delivered."""
    query = "query?query=sum(increase(tokenpulse_intake_events_total[1m]))>0"
    with urllib.request.urlopen(f"{prometheus_url}/{query}", timeout=5) as answer:
        return bool(json.load(answer)["data"]["result"])


@pytest.mark.timeout(600)
def test_an_intake_pages_if_kafka_takes_no_event_and_if_it_is_down(tmp_path: Path) -> None:
    receiver = Receiver()
    pages = Pages(receiver)
    pages.expect(NO_EXPORTER)
    manager = Alertmanager(alertmanager_config(tmp_path, receiver.url))
    asked = Settings(kafka=Kafka(partitions=1))
    rules = soon_firing(RULES, tmp_path, FOR_S)
    try:
        with (
            LocalStack(asked, workers=0, exporter=False, simulate=False) as local,
            IntakeProcess(local.settings.kafka, answer_timeout_s=2) as intake,
            sending(intake.url),
            prometheus(tmp_path, rules, {"tokenpulse-intake": intake.url}, manager.url) as url,
        ):
            wait_until(lambda: delivers_events(url), "events are delivered", 120)
            assert not pages.about(INTAKE)
            local.stop()
            pages.expect(STUCK)
            pages.wait_for([STUCK], PAGE_S)
            assert not pages.about(DOWN)
            intake.kill()
            pages.expect(DOWN)
            pages.wait_for([DOWN], PAGE_S)
    finally:
        manager.process.kill()
        manager.process.wait()
        receiver.server.shutdown()
        receiver.server.server_close()
