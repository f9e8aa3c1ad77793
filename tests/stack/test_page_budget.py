"""A page of all models that eight partitions can have, in a Prometheus as shipped."""

import asyncio
import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Redis, Settings
from streams.config.worker import Limits
from tests.support.alerting_stack import prometheus
from tests.support.checks import not_none
from tests.support.exporter_process import ExporterProcess
from tests.support.exporter_state import StateWriter, event
from tests.support.paths import ROOT
from tests.support.programs import needed_programs
from tests.support.servers import wait_until

pytestmark = needed_programs(prometheus=shutil.which("prometheus"))

PARTITIONS, TOP = 8, 1_000
IN_USE = ("opus", "haiku")
REQUESTS_IN_USE = 400  # of each, in each partition
LONGEST = 96  # characters of a name
NOWHERE = "http://127.0.0.1:9"


def padded(name: str) -> str:
    return name.ljust(LONGEST, "-")


def filled(partition: int) -> list[dict[str, Any]]:
    """As many models as fit into a partition, with one request each, among those in use."""
    now_s, most = time.time(), Limits()
    used = [
        event(now_s, model=model, customer_id=f"buyer-{number % 5}")
        for number in range(REQUESTS_IN_USE)
        for model in IN_USE
    ]
    invented = [
        event(
            now_s,
            model=padded(f"{partition}-{number % (most.models - len(IN_USE))}"),
            region=padded(f"{partition}-{number % (most.regions - 1)}"),
            channel=padded(f"{partition}-{number % (most.channels - 1)}"),
            service_tier=padded(f"{partition}-{number % (most.service_tiers - 1)}"),
            customer_id=f"{partition}-{number}",
        )
        for number in range(most.models - len(IN_USE))
    ]
    return used + invented


def write_filled(settings: Settings) -> int:
    """Fill all partitions; return the number of requests."""
    requests = 0

    async def write() -> None:
        nonlocal requests
        writer = StateWriter(settings)
        for partition in range(PARTITIONS):
            events = filled(partition)
            requests += len(events)
            await writer.write(partition, events, time.time())
        await writer.close()

    asyncio.run(write())
    return requests


def value_of(url: str, query: str) -> float | None:
    """Return the only value of a query; None without one."""
    asked = urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(f"{url}/query?{asked}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return float(found[0]["value"][1]) if found else None


@pytest.mark.timeout(600)
def test_with_too_many_names_prometheus_accepts_the_page_and_an_alert_says_what_is_missing(
    configured: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = configured(
        customers_top=TOP,
        # Of a machine that does more than this test.
        stale_after_s=60,
    )
    settings = settings.model_copy(update={"redis": Redis(url=settings.redis.url)})
    requests = write_filled(settings)
    targets: dict[str, str] = {}
    rules = ROOT / "alerts" / "generated" / "prometheus"
    with ExporterProcess(settings, tmp_path / "exporter.log") as exporter:
        targets["tokenpulse-exporter"] = f"http://127.0.0.1:{exporter.port}"
        with prometheus(tmp_path, rules, targets, NOWHERE) as url:

            def ask(query: str) -> float | None:
                return value_of(url, query)

            total = 'tokenpulse_window_requests{scope="fleet",window="30d",outcome="success"}'
            wait_until(lambda: ask(total) == requests, "the whole fleet is there", 180)
            assert not_none(ask("tokenpulse_exporter_dropped_samples")) > 0
            samples = not_none(ask('scrape_samples_scraped{job="tokenpulse-exporter"}'))
            assert 90_000 < samples <= settings.exporter.max_samples
            for model in IN_USE:
                by_model = f'scope="model",window="1h",outcome="success",model="{model}"'
                used = ask(f"tokenpulse_window_requests{{{by_model}}}")
                assert used == PARTITIONS * REQUESTS_IN_USE
                since_ever = f'tokenpulse_requests_total{{model="{model}",outcome="success"}}'
                assert ask(since_ever) == PARTITIONS * REQUESTS_IN_USE
            alert = 'ALERTS{alertname="TokenpulseScrapeLimit",cause="dropped"}'
            wait_until(lambda: ask(alert) == 1, "the alert is pending", 30)
            assert ask('min_over_time(up{job="tokenpulse-exporter"}[10m])') == 1
            refresh_s = not_none(ask("tokenpulse_exporter_refresh_seconds"))
            assert refresh_s < settings.exporter.stale_after_s
