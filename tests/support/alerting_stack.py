"""All of Tokenpulse and all that alerts, as real processes, and what reaches a person.

Broker, Redis, workers, exporter, `tokenpulse simulate`, Prometheus, Alertmanager and a receiver of
webhooks. Prometheus and Alertmanager run with the project's own files, led to this stack's
addresses; of the ways to tell people only the webhook is left.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import redis
import yaml

from streams.config.settings import Exporter, Kafka, Settings
from tests.support.alertmanager import CONFIG, TEMPLATES, Alertmanager, Receiver, readable
from tests.support.paths import ROOT
from tests.support.servers import wait_until
from tests.support.worker_process import START_S, State, WorkerProcess, tokenpulse
from tokenpulse.local.embedded import environment, free_port
from tokenpulse.local.stack import LocalStack

PROMETHEUS = shutil.which("prometheus")
PROMETHEUS_CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
PARTITIONS = 2
# Enough for every guard against few samples, also in a region's night.
EVENTS_PER_S = 60
# A past against which a fault of a minute is small, as it would be in operation.
HISTORY = "1h"


@dataclass(slots=True)
class Page:
    """An alert as the receiver saw it; instants in epoch seconds, None before."""

    labels: dict[str, str]
    paged_at_s: float
    resolved_at_s: float | None = None

    def is_about(self, labels: Mapping[str, str]) -> bool:
        """Whether it carries all of these labels."""
        return labels.items() <= self.labels.items()


class Pages:
    """Alerts that were sent to the pager, each once, and never one that nobody expects."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._seen = receiver, 0
        self._pages: dict[str, Page] = {}
        self._expected: list[Mapping[str, str]] = []

    def expect(self, labels: Mapping[str, str]) -> None:
        """From now on a page with these labels is right."""
        self._expected.append(labels)

    def about(self, labels: Mapping[str, str]) -> list[Page]:
        """What came so far. Fails on a page that was not expected when it came."""
        now_s, hooks = time.time(), self._receiver.at("/webhook_url")
        for alert in [alert for hook in hooks[self._seen :] for alert in hook["alerts"]]:
            page = self._pages.setdefault(alert["fingerprint"], Page(alert["labels"], now_s))
            right = any(page.is_about(labels) for labels in self._expected)
            assert right, f"nobody expected the page {alert['labels']}: {alert['annotations']}"
            if alert["status"] == "firing":
                page.resolved_at_s = None
            elif page.resolved_at_s is None:  # Prometheus repeats it a minute later
                page.resolved_at_s = now_s
        self._seen = len(hooks)
        return [page for page in self._pages.values() if page.is_about(labels)]

    def watch(self, until_s: float) -> None:
        """Wait until this instant (epoch s), and fail on a page that is not expected."""
        wait_until(lambda: not self.about({}) and time.time() >= until_s, "no page at all", 120)

    def wait_for(self, wanted: Sequence[Mapping[str, str]], within_s: float) -> None:
        """Return when each has come."""
        wait_until(lambda: all(map(self.about, wanted)), f"pages {wanted}", within_s)

    def wait_for_ends(self, wanted: Sequence[Mapping[str, str]], within_s: float) -> None:
        """Return when the receiver was told of the end of each."""
        wait_until(
            lambda: all(page.resolved_at_s for labels in wanted for page in self.about(labels)),
            f"the ends of {wanted}",
            within_s,
        )

    @property
    def watchdogs(self) -> int:
        """How often the dead-man receiver was told."""
        return len(self._receiver.at("/dead_man_url"))


class AlertingStack:
    """Everything, with an hour of calm traffic behind it, and more coming. A context manager.

    `policies`: files and names of shipped ones, for the rules and the exporter. `pages` is what
    arrives at the receiver.
    """

    def __init__(self, directory: Path, policies: Sequence[str]) -> None:
        self._directory, self._policies = directory, tuple(policies)
        self._rest = ExitStack()
        self._traffic = ExitStack()
        self._workers: list[WorkerProcess] = []
        self._runs = 0  # of workers, for the names of their logs

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.push(self._stop)
            self._start()
            starting.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop(*error)

    def _stop(self, *error: Any) -> None:
        self._traffic.close()
        self._rest.__exit__(*error)

    def _start(self) -> None:
        asked = Settings(
            kafka=Kafka(partitions=PARTITIONS),
            exporter=Exporter(port=free_port(), policies=self._policies),
        )
        local = self._rest.enter_context(
            LocalStack(asked, workers=0, exporter=False, simulate=False)
        )
        self.settings, self.board_url = local.settings, local.exporter_url
        self.start_workers(2)
        self.send()
        self._send_history()
        # After the history: a counter that rises by an hour of requests in some seconds would be
        # in the rates of the board, and not in those of Prometheus.
        self._start_exporter()
        receiver = Receiver()
        self._rest.callback(receiver.server.server_close)
        self._rest.callback(receiver.server.shutdown)
        self.pages = Pages(receiver)
        alertmanager = Alertmanager(alertmanager_config(self._directory, receiver.url))
        self._rest.callback(alertmanager.process.wait)
        self._rest.callback(alertmanager.process.kill)
        self.alertmanager_url = alertmanager.url
        self.prometheus_url = self._start_prometheus(self.board_url, alertmanager.url)

    def start_workers(self, count: int) -> None:
        """Start worker processes; killed at the end."""
        for _ in range(count):
            self._runs += 1
            log = self._directory / f"worker-{self._runs}.log"
            worker = self._rest.enter_context(WorkerProcess(self.settings, log))
            self._workers.append(worker)

    def kill_worker(self) -> None:
        """SIGKILL one that runs."""
        self._workers.pop().kill()

    def send(self, scenarios: Sequence[Mapping[str, Any]] = ()) -> None:
        """Send simulated traffic in the place of that sent so far."""
        timeline = self._directory / "timeline.yaml"
        timeline.write_text(yaml.safe_dump({"scenarios": [dict(one) for one in scenarios]}))
        self._traffic.close()
        asked = ("simulate", *self._rate(), "--scenarios", str(timeline))
        self._traffic.enter_context(
            running(
                [sys.executable, "-m", "tokenpulse.cli.main", *asked],
                self._directory / "simulate.log",
                {**environment(self.settings), "PYTHONPATH": str(ROOT)},
            )
        )

    def _start_exporter(self) -> None:
        command = [sys.executable, "-m", "tokenpulse.cli.main", "exporter"]
        variables = {**environment(self.settings), "PYTHONPATH": str(ROOT)}
        self._rest.enter_context(running(command, self._directory / "exporter.log", variables))
        url = f"{self.board_url}/api/v1/live"
        wait_until(lambda: _answers(url), "the exporter has numbers", 4 * START_S)

    def _rate(self) -> tuple[str, str]:
        return ("--rate", str(EVENTS_PER_S))

    def _send_history(self) -> None:
        """And wait until it is counted: until then data are stale, and rightly told so."""
        sent = tokenpulse(
            *("simulate", *self._rate(), "--for", HISTORY, "--ending-now"), settings=self.settings
        )
        assert sent.returncode == 0, sent.stderr
        with redis.Redis.from_url(self.settings.redis.url) as client:
            records = int(sent.stdout.split()[0])
            State(self.settings, client).wait_past(range(PARTITIONS), records)

    def _start_prometheus(self, exporter_url: str, alertmanager_url: str) -> str:
        rules = self._directory / "rules"
        named = [part for policy in self._policies for part in ("--policy", policy)]
        built = tokenpulse(
            "rules", "build", *named, "--out", rules, "--allow-example-urls", settings=self.settings
        )
        assert (built.returncode, built.stderr) == (0, "")
        targets = {"tokenpulse-exporter": exporter_url}
        return self._rest.enter_context(
            prometheus(self._directory, rules, targets, alertmanager_url)
        )


def alertmanager_config(directory: Path, url: str) -> Path:
    """Write the shipped configuration in a directory, with webhooks at `url` alone."""
    document = yaml.safe_load(readable(CONFIG.read_text(), url))
    del document["global"]["slack_api_url_file"]
    for one in document["receivers"]:
        for kind in ("pagerduty_configs", "email_configs", "slack_configs"):
            one.pop(kind, None)
    folder = directory / "alertmanager"
    shutil.copytree(TEMPLATES.parent, folder / "templates")
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def soon_firing(rules: Path, directory: Path, for_s: int) -> Path:
    """Copy a folder of rule files; alerts that wait for minutes wait for `for_s`. Return the copy.

    The cases of promtool show that each waits as long as it says: the way from a fault to a person
    can be shown without.
    """
    copy = directory / "rules"
    copy.mkdir()
    for file in rules.glob("*.yml"):
        document = yaml.safe_load(file.read_text())
        for rule in [rule for group in document["groups"] for rule in group["rules"]]:
            if rule.get("for", "").endswith("m"):
                rule["for"] = f"{for_s}s"
        (copy / file.name).write_text(yaml.safe_dump(document))
    return copy


@contextmanager
def prometheus(
    directory: Path, rules: Path, targets: Mapping[str, str], alertmanager_url: str
) -> Iterator[str]:
    """Run Prometheus with the shipped configuration, and yield the URL of its API.

    `rules`: folder of the rule files. `targets`: URL of the only target of each scrape job.
    """
    document = yaml.safe_load(PROMETHEUS_CONFIG.read_text())
    assert document["global"]["scrape_interval"] == "5s"
    document["rule_files"] = [f"{rules}/*.yml"]
    (managers,) = document["alerting"]["alertmanagers"]
    managers["static_configs"] = [{"targets": [_address(alertmanager_url)]}]
    jobs = [job for job in document["scrape_configs"] if job["job_name"] in targets]
    for job in jobs:
        job["static_configs"] = [{"targets": [_address(targets[job["job_name"]])]}]
    document["scrape_configs"] = jobs
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(document))
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(PROMETHEUS),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address={address}",
    ]
    with running(command, directory / "prometheus.log", None):
        # An alert that fires before Prometheus has found Alertmanager is sent a minute later.
        url = f"http://{address}/api/v1"
        wait_until(lambda: _at_work(url), "Prometheus scrapes and knows Alertmanager", START_S)
        yield url


def scenario(kind: str, start_s: float, duration_s: float, **more: Any) -> dict[str, Any]:
    """One of a timeline, beginning at an instant (epoch s)."""
    start = datetime.fromtimestamp(start_s, UTC).isoformat()
    return {"kind": kind, "start": start, "duration": f"{duration_s:g}s", **more}


@contextmanager
def running(
    command: Sequence[str], log: Path, variables: Mapping[str, str] | None
) -> Iterator[None]:
    """A process for the time of the block; its last words where the block fails."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=variables,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    except BaseException as error:
        error.add_note(f"{log.name} ends:\n{log.read_text(errors='replace')[-2_000:]}")
        raise
    finally:
        process.kill()
        process.wait()


def _address(url: str) -> str:
    """`host:port`."""
    return url.split("/")[2]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:  # not started yet, or 503 without numbers
        return False


def _at_work(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/alertmanagers", timeout=2) as answer:
            managers = json.load(answer)["data"]["activeAlertmanagers"]
        with urllib.request.urlopen(f"{url}/query?query=sum(up)", timeout=2) as answer:
            up = json.load(answer)["data"]["result"]
    except OSError:
        return False
    return bool(managers and up and up[0]["value"][1] == "1")
