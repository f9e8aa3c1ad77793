"""A running Tokenpulse with everything that the dashboards show, scraped by a real Prometheus.

Broker, Redis, a worker, an exporter with a customer directory, prices and a contract, an hour of
simulated traffic with an outage in it, more of it coming, and Prometheus with the compiled rules.
"""

import json
import sys
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
import yaml

from streams.config.settings import Exporter, Kafka, Settings
from streams.store.source_counts import DAY_S, UNREAD_SPANS, PendingCounts, SourceCount
from tests.support.alerting_stack import PROMETHEUS, PROMETHEUS_CONFIG, running, scenario
from tests.support.paths import ROOT
from tests.support.servers import wait_until
from tests.support.source_history import sent, steady, write_sources
from tests.support.worker_process import START_S, State, WorkerProcess, tokenpulse
from tokenpulse.local.embedded import environment, free_port
from tokenpulse.local.stack import LocalStack

PARTITIONS = 2
HISTORY = "1h"
RATE = ("--rate", "40")
CUSTOMER = "Acme Corp"
DIRECTORY = f"""
- {{id: acct-0001, name: {CUSTOMER}, segment: enterprise, monthly_commitment_usd: 250000}}
- {{id: acct-0002, name: "Lumen & Sons (EU)", segment: smb, monthly_commitment_usd: 900}}
"""
# A promise to each customer, one by minutes with credits, and a level that nobody can hold.
POLICY = """
version: 1
name: contract
objectives:
  - name: each-customer
    scope: {per: customer}
    indicator: {kind: request_ratio}
    target: 99.9%
    period: {rolling_days: 30}
    severity: ticket
  - name: minutes
    scope: {customer: acct-0001}
    indicator: {kind: minute_verdicts, down_above: 5%, min_samples: 1}
    target: 99.9%
    period: {calendar: month, zone: UTC}
    severity: ticket
    sla:
      credit_tiers:
        - {below: 99.9%, credit: 10%}
        - {below: 99%, credit: 25%}
  - name: cache-dream
    scope: fleet
    indicator: {kind: cache_hit_ratio, window: 5m}
    levels: [{severity: ticket, below: 99%, for: 5s}]
"""


class Prometheus:
    """A client of one server's API; every failure of the server is an error here."""

    def __init__(self, url: str) -> None:
        self.url = url

    def series(self, expr: str) -> list[dict[str, Any]]:
        """What an instant query answers now, without what is no number."""
        found: list[dict[str, Any]] = self._asked("query", query=expr)["result"]
        return [one for one in found if one["value"][1] != "NaN"]

    def labels(self, selector: str, label: str) -> list[str]:
        """As Grafana fills a variable."""
        found: list[str] = self._asked(f"label/{label}/values", **{"match[]": selector})
        return found

    def exemplars(self, expr: str) -> list[dict[str, Any]]:
        """Exemplars of the series in an expression, over the last ten minutes."""
        now_s = time.time()
        found = self._asked("query_exemplars", query=expr, start=now_s - 600, end=now_s)
        return [one for series in found for one in series["exemplars"]]

    def _asked(self, path: str, **asked: Any) -> Any:
        query = urllib.parse.urlencode(asked)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]


def _source_of_two_days() -> PendingCounts:
    """What an intake counted of a source that sends whole traces, and spans of a database."""
    pending, now_s = PendingCounts(), time.time()
    steady(pending, "gateway", now_s - 2 * DAY_S, now_s, 50)
    pending.add(sent("gateway", 50) | {SourceCount(UNREAD_SPANS, "gateway", "pg"): 9}, now_s)
    return pending


class GrafanaStack:
    """All of it. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.push(self._open)
            self._start()
            starting.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def _start(self) -> None:
        directory, policy = self._directory / "customers.yaml", self._directory / "contract.yaml"
        directory.write_text(DIRECTORY)
        prices = self._directory / "prices.yaml"
        prices.write_text(yaml.safe_dump(_prices()))
        policy.write_text(POLICY)
        asked = Settings(
            kafka=Kafka(partitions=PARTITIONS),
            exporter=Exporter(
                port=0,
                policies=("default", str(policy)),
                customer_directory=directory,
                price_book=str(prices),
            ),
        )
        local = self._open.enter_context(
            LocalStack(asked, workers=0, exporter=False, simulate=False)
        )
        # The embedded stack's own processes archive nothing.
        worker = local.settings.worker.model_copy(update={"archive_interval_s": 5})
        port = free_port()
        exporter = local.settings.exporter.model_copy(update={"port": port})
        self._settings = local.settings.model_copy(update={"worker": worker, "exporter": exporter})
        # Before the exporter starts: it reads slots of more than an hour ago once only.
        write_sources(self._settings, [_source_of_two_days()])
        self._open.enter_context(WorkerProcess(self._settings, self._directory / "worker.log"))
        self._open.enter_context(
            running(
                [sys.executable, "-m", "tokenpulse.cli.main", "exporter"],
                self._directory / "exporter.log",
                {**environment(self._settings), "PYTHONPATH": str(ROOT)},
            )
        )
        self._send_history()
        self._open.enter_context(
            running(
                [sys.executable, "-m", "tokenpulse.cli.main", "simulate", *RATE],
                self._directory / "simulate.log",
                {**environment(self._settings), "PYTHONPATH": str(ROOT)},
            )
        )
        self.prometheus = self._start_prometheus(f"127.0.0.1:{port}")

    def _send_history(self) -> None:
        outage = scenario("outage", time.time() - 1_800, 600, error_share=0.5)
        timeline = self._directory / "timeline.yaml"
        timeline.write_text(yaml.safe_dump({"scenarios": [outage]}))
        simulated = tokenpulse(
            *("simulate", *RATE, "--for", HISTORY, "--ending-now", "--scenarios", str(timeline)),
            settings=self._settings,
        )
        assert simulated.returncode == 0, simulated.stderr
        with redis.Redis.from_url(self._settings.redis.url) as client:
            counted = State(self._settings, client)
            counted.wait_past(range(PARTITIONS), int(simulated.stdout.split()[0]) - 1)

    def _start_prometheus(self, exporter: str) -> Prometheus:
        rules = self._directory / "rules"
        policies = self._settings.exporter.policies
        named = [part for policy in policies for part in ("--policy", policy)]
        built = tokenpulse(
            "rules",
            "build",
            *named,
            "--out",
            rules,
            "--allow-example-urls",
            settings=self._settings,
        )
        assert (built.returncode, built.stderr) == (0, "")
        document = yaml.safe_load(PROMETHEUS_CONFIG.read_text())
        document["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
        document["rule_files"] = [f"{rules}/*.yml"]
        del document["alerting"]
        exporters = document["scrape_configs"][0]
        address = f"127.0.0.1:{free_port()}"
        itself = {"job_name": "prometheus", "static_configs": [{"targets": [address]}]}
        document["scrape_configs"] = [exporters, itself]
        exporters["static_configs"] = [{"targets": [exporter]}]
        config = self._directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(document))
        self._open.enter_context(
            running(
                [
                    str(PROMETHEUS),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self._directory}/tsdb",
                    f"--web.listen-address={address}",
                    "--enable-feature=exemplar-storage",
                ],
                self._directory / "prometheus.log",
                None,
            )
        )
        server = Prometheus(f"http://{address}")
        wait_until(lambda: _scrapes(server), "Prometheus scrapes the exporter", START_S)
        return server


def _prices() -> dict[str, Any]:
    """Of all simulated models but one, so that something has no price."""
    book: dict[str, Any] = yaml.safe_load(
        (ROOT / "exporters/reference/price_books/simulated.yaml").read_text()
    )
    book["models"].popitem()
    return book


def _scrapes(server: Prometheus) -> bool:
    try:
        return bool(server.series("up == 1"))
    except OSError:
        return False
