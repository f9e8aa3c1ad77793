"""Exemplars all the way: events through a real worker and exporter into a real Prometheus."""

import json
import random
import shutil
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from streams.config.settings import Exporter, Kafka, Settings
from tests.support.alerting_stack import running
from tests.support.exporter_state import event
from tests.support.programs import needed_programs
from tests.support.servers import wait_until
from tests.support.worker_process import send
from tokenpulse.local.embedded import free_port
from tokenpulse.local.stack import LocalStack

PROMETHEUS = shutil.which("prometheus")
FIELD_OF = {
    "gen_ai_server_time_to_first_token_seconds": "ttft_ms",
    "gen_ai_server_request_duration_seconds": "duration_ms",
}

pytestmark = needed_programs(prometheus=PROMETHEUS)


class Traffic:
    """Traced events of two models and regions, of each of which one in a round is slow. Workers
    take a sample, so more is sent until all slow ones were met."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka, self._chance = kafka, random.Random(5)
        self.sent: dict[str, dict[str, Any]] = {}  # by trace id

    def round(self, count: int = 40) -> None:
        """Send some, and slower ones without a trace after them."""
        events = [self._event(slow=at >= count - 4) for at in range(count)]
        self.sent |= {one["trace_id"]: one for one in events}
        for at in range(4):
            untraced = self._event(slow=True) | {"ttft_ms": 9_000 + at, "duration_ms": 11_000 + at}
            del untraced["trace_id"]
            events.append(untraced)
        send(
            self._kafka,
            [(one["request_id"].encode(), msgspec.json.encode(one)) for one in events],
        )

    def _event(self, slow: bool) -> dict[str, Any]:
        ttft_ms = round(self._chance.lognormvariate(5, 0.5), 3)
        if slow:
            ttft_ms = self._chance.randint(4_000, 4_400)
        number = self._chance.getrandbits(128)
        turn = len(self.sent) + number % 4
        return event(
            time.time(),
            request_id=f"{number:x}",
            model=("opus", "haiku")[turn % 2],
            region=("us-east-1", "eu-west-1")[turn // 2 % 2],
            ttft_ms=ttft_ms,
            duration_ms=ttft_ms + 2_000,
            trace_id=f"{number:032x}",
        )

    def slow(self, trace_id: str) -> tuple[str, str] | None:
        """Model and region of a slow request; None where it was not slow."""
        one = self.sent[trace_id]
        return (one["model"], one["region"]) if one["ttft_ms"] >= 4_000 else None


def exemplars(url: str, metric: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """(labels of the series, exemplar) as Prometheus has stored them."""
    asked = urllib.parse.urlencode(
        {"query": f"{metric}_bucket", "start": time.time() - 600, "end": time.time() + 600}
    )
    with urllib.request.urlopen(f"{url}/api/v1/query_exemplars?{asked}", timeout=5) as answer:
        found = json.load(answer)["data"]
    return [(series["seriesLabels"], one) for series in found for one in series["exemplars"]]


@pytest.mark.timeout(180)
def test_prometheus_knows_the_trace_of_a_slow_request_in_its_bucket(tmp_path: Path) -> None:
    asked = Settings(kafka=Kafka(partitions=1), exporter=Exporter(port=0, refresh_interval_s=0.2))
    with LocalStack(asked, workers=1, exporter=True, simulate=False) as stack:
        traffic = Traffic(stack.settings.kafka)
        config = tmp_path / "prometheus.yml"
        scraped = {
            "job_name": "tokenpulse-exporter",
            "scrape_interval": "1s",
            "static_configs": [{"targets": [stack.exporter_url.split("/")[2]]}],
        }
        config.write_text(yaml.safe_dump({"scrape_configs": [scraped]}))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(PROMETHEUS),
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        url = f"http://{address}"
        with running(command, tmp_path / "prometheus.log", None):
            for metric, field in FIELD_OF.items():

                def met(metric: str = metric) -> bool:
                    traffic.round()
                    time.sleep(1)
                    try:
                        found = exemplars(url, metric)
                    except OSError:  # it has not started yet
                        return False
                    slow = {traffic.slow(one["labels"]["trace_id"]) for _, one in found}
                    return len(slow - {None}) == 4  # each model in each region

                wait_until(met, f"slow traces in {metric}", 60)
                for labels, one in exemplars(url, metric):
                    real = traffic.sent[one["labels"]["trace_id"]]
                    assert (labels["gen_ai_request_model"], labels["region"]) == (
                        real["model"],
                        real["region"],
                    )
                    value_s = float(one["value"])
                    assert value_s == pytest.approx(real[field] / 1_000)
                    assert one["timestamp"] == pytest.approx(real["ended_at"] / 1_000)
                    assert value_s <= float(labels["le"])
                    assert value_s > _edge_below(stack.exporter_url, metric, labels["le"])
            log = (tmp_path / "prometheus.log").read_text().splitlines()
            assert not [line for line in log if "exemplar" in line and "level=info" not in line]


def _edge_below(exporter_url: str, metric: str, le: str) -> float:
    """The edge before one in the plain page; 0 before the first."""
    with urllib.request.urlopen(f"{exporter_url}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    assert "trace_id" not in page
    edges = {
        float(line.split('le="')[1].split('"')[0])
        for line in page.splitlines()
        if line.startswith(f"{metric}_bucket")
    }
    return max((edge for edge in edges if edge < float(le)), default=0.0)
