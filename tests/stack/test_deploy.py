"""The services of docker-compose.yml as real processes, with the very files that it mounts.

tests/support/compose_engine.py says how, and what is not as in containers. Grafana is not among
them, as no package of this machine brings it: its files are checked here and in tests/grafana.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.support.alertmanager import readable
from tests.support.apache_kafka import jars
from tests.support.compose import document, environment_of, mounts_of
from tests.support.compose_engine import Engine, needs_namespaces
from tests.support.paths import ROOT
from tests.support.programs import find_program
from tests.support.servers import wait_until

# A busy machine starts seven servers slowly, and a health check may take all of its time.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PROMETHEUS = "http://prometheus:9090/api/v1"
ALERTMANAGER = "http://alertmanager:9093/api/v2"
RUNNING = (
    *("kafka", "redis", "worker", "intake", "exporter", "prometheus", "alertmanager", "simulator"),
)
WAIT_S = 120


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    needs_namespaces()
    jars()
    for program in ("redis-server", "prometheus", "promtool", "amtool", "curl"):
        find_program(program)
    find_program("prometheus-alertmanager", "alertmanager")
    directory = tmp_path_factory.mktemp("compose")
    secrets = directory / "secrets"
    subprocess.run(
        ["bash", ROOT / "deploy/make-secrets.sh", secrets], check=True, capture_output=True
    )
    with Engine(directory, secrets, {"./alerts/alertmanager": alertmanager(directory)}) as engine:
        engine.up(RUNNING)
        yield engine


def alertmanager(directory: Path) -> Path:
    """Its directory as an Alertmanager before 0.26 reads it; as it is where this one is newer."""
    copied = directory / "alertmanager"
    shutil.copytree(ROOT / "alerts/alertmanager", copied)
    file = copied / "alertmanager.yml"
    file.write_text(readable(file.read_text()))
    return copied


def value(stack: Engine, query: str) -> float | None:
    """What Prometheus answers to a query with one result; None where it has none."""
    result = stack.json(f"{PROMETHEUS}/query?query={query}")["data"]["result"]
    return float(result[0]["value"][1]) if result else None


@pytest.mark.parametrize("name", RUNNING)
def test_what_works_is_healthy(stack: Engine, name: str) -> None:
    done = stack.health(name)
    assert done.returncode == 0, done.stdout + done.stderr + stack.log(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@pytest.mark.parametrize("name", RUNNING)
def test_a_service_is_nobody_and_can_write_nowhere_but_where_it_must(
    stack: Engine, name: str
) -> None:
    service = stack.document["services"][name]
    script = 'id -u; grep CapEff /proc/self/status; for one in "$@"; do touch $one/probe; done'
    writable = [target for _, target, read_only in mounts_of(service) if not read_only]
    done = stack.inside(name, ["sh", "-ec", script, "sh", "/tmp", *writable])
    assert done.returncode == 0, done.stderr
    user, capabilities = done.stdout.splitlines()
    assert user == service["user"].split(":")[0] != "0"
    assert int(capabilities.split()[1], 16) == 0
    shared = [
        target
        for source, target, read_only in mounts_of(service)
        if read_only and not (ROOT / source).is_file()
    ]
    closed = ["/", "/etc", "/usr", *shared]
    for place in closed:
        done = stack.inside(name, ["sh", "-c", f"echo > {place}/probe"])
        assert "Read-only file system" in done.stderr, f"{name} in {place}: {done}"


def test_the_simulated_traffic_arrives_in_prometheus(stack: Engine) -> None:
    wait_until(lambda: bool(value(stack, "sum(tokenpulse_requests_total)")), "requests", WAIT_S)
    before = value(stack, "sum(tokenpulse_requests_total)")
    assert before is not None
    wait_until(
        lambda: (value(stack, "sum(tokenpulse_requests_total)") or 0) > before, "more", WAIT_S
    )
    wait_until(
        lambda: value(stack, "count(tokenpulse_objective_attainment_ratio)") is not None,
        "objectives",
        WAIT_S,
    )


def test_prometheus_scrapes_the_exporter_and_knows_alertmanager_and_every_rule(
    stack: Engine,
) -> None:
    scraped = {
        ("http://exporter:9464/metrics", "up"),
        ("http://intake:4318/metrics", "up"),
        ("http://localhost:9090/metrics", "up"),
        ("http://alertmanager:9093/metrics", "up"),
    }
    wait_until(lambda: targets(stack) == scraped, "every target is scraped", WAIT_S)
    [manager] = stack.json(f"{PROMETHEUS}/alertmanagers")["data"]["activeAlertmanagers"]
    assert manager["url"] == "http://alertmanager:9093/api/v2/alerts"
    groups = stack.json(f"{PROMETHEUS}/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    shipped = [
        rule.get("alert") or rule["record"]
        for file in (ROOT / "alerts/generated/prometheus").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert sorted(rule["name"] for rule in rules) == sorted(shipped)
    wait_until(lambda: healths(stack) == {"ok"}, "every rule was evaluated", WAIT_S)
    for rule in rules:
        for link in ("dashboard_url", "runbook_url"):
            assert "grafana.example" not in rule.get("annotations", {}).get(link, ""), rule["name"]


def targets(stack: Engine) -> set[tuple[str, str]]:
    found = stack.json(f"{PROMETHEUS}/targets")["data"]["activeTargets"]
    # Workers are found by the engine's name server, which the engine of this test does not have.
    return {
        (target["scrapeUrl"], target["health"])
        for target in found
        if target["scrapePool"] != "tokenpulse-worker"
    }


def healths(stack: Engine) -> set[str]:
    groups = stack.json(f"{PROMETHEUS}/rules")["data"]["groups"]
    return {rule["health"] for group in groups for rule in group["rules"]}


def test_alerts_reach_alertmanager(stack: Engine) -> None:
    wait_until(
        lambda: any(
            alert["labels"]["alertname"] == "TokenpulseWatchdog"
            for alert in stack.json(f"{ALERTMANAGER}/alerts")
        ),
        "the watchdog",
        WAIT_S,
    )


def test_the_board_is_there(stack: Engine) -> None:
    assert "Tokenpulse" in stack.get("http://exporter:9464/")


def test_an_operator_sees_the_partitions(stack: Engine) -> None:
    service = stack.document["services"]["operator"]
    done = stack.inside("operator", ["tokenpulse", *service["command"]])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("worker:") == int(
        environment_of(service)["TOKENPULSE_KAFKA__PARTITIONS"]
    )


def test_a_scenario_is_ordered_where_the_simulator_runs(stack: Engine) -> None:
    asked = ("outage", "--region", "eu-west-1", "--for", "10s")
    done = stack.inside("simulator", ["tokenpulse", "scenario", *asked])
    assert done.returncode == 0, done.stderr


def test_nobody_was_refused_by_redis(stack: Engine) -> None:
    script = (
        "REDISCLI_AUTH=$0 redis-cli --user admin --tls --cacert /etc/redis/tls/ca.crt -h redis "
        "--no-auth-warning ACL LOG"
    )
    password = stack.secret("redis_admin_password")
    done = stack.inside("redis", ["sh", "-c", script, password])
    assert (done.returncode, done.stdout.strip()) == (0, "")


STANDING = ("worker", "simulator", "prometheus", "alertmanager")


def is_ill(stack: Engine, name: str) -> bool:
    return not stack.passes(name)


def test_what_stands_still_does_not_pass_for_healthy(stack: Engine) -> None:
    for name in STANDING:
        stack.signal(name, signal.SIGSTOP)
    try:
        # The exporter works, and says that its numbers cannot be relied on.
        for name in (*STANDING, "exporter"):
            wait_until(partial(is_ill, stack, name), f"{name} is ill", WAIT_S)
        assert "last heartbeat" in stack.health("worker").stderr
    finally:
        for name in STANDING:
            stack.signal(name, signal.SIGCONT)
    for name in (*STANDING, "exporter"):
        wait_until(partial(well_again, stack, name), f"{name} is well again", WAIT_S)


def well_again(stack: Engine, name: str) -> bool:
    stack.revive(name)  # a worker that stood for too long ends itself
    return stack.passes(name)


def test_a_redis_that_stands_still_does_not_pass_for_healthy(stack: Engine) -> None:
    stack.signal("redis", signal.SIGSTOP)
    try:
        assert not stack.passes("redis")
    finally:
        stack.signal("redis", signal.SIGCONT)
    wait_until(lambda: stack.passes("redis"), "Redis is well again", WAIT_S)


def test_a_worker_that_is_stopped_ends_well_within_its_grace(stack: Engine) -> None:
    assert stack.stop("worker") == 0


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    services = document()["services"]
    grafana = services["grafana"]
    mounted = {target: source for source, target, _ in mounts_of(grafana)}
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    variables = environment_of(grafana)
    sources = [
        source
        for file in (provisioning / "datasources").glob("*.y*ml")
        for source in yaml.safe_load(file.read_text())["datasources"]
    ]
    [prometheus] = [one for one in sources if one["type"] == "prometheus"]
    url = prometheus["url"]
    for name, text in variables.items():
        url = url.replace(f"${{{name}}}", text)
    assert url == "http://prometheus:9090"
    assert "prometheus" in services
    providers = [
        provider
        for file in (provisioning / "dashboards").glob("*.y*ml")
        for provider in yaml.safe_load(file.read_text())["providers"]
    ]
    assert providers
    uids = []
    for provider in providers:
        boards = ROOT / mounted[provider["options"]["path"]]
        uids += [json.loads(file.read_text())["uid"] for file in boards.rglob("*.json")]
    assert uids
    assert len(set(uids)) == len(uids)
