"""`tokenpulse config check`: all problems at once, and only those of the role."""

from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.command import run
from tests.support.servers import Broker, RedisServer

REFUSED: dict[str, Any] = {
    "TOKENPULSE_KAFKA__BOOTSTRAP": "127.0.0.1:1",
    "TOKENPULSE_REDIS__URL": "redis://127.0.0.1:1/0",
}
KEY, KAFKA, REDIS = "worker.customer_key: ", "no Kafka broker answers at ", "no Redis answers at "
POLICY, PRICES = "absent.yaml: no such file", "exporter.price_book: "
STATUS, TOKENS = "exporter.status_page: ", "intake.tokens_file: "


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (None, [KEY, POLICY, PRICES, STATUS, TOKENS, KAFKA, REDIS]),
        ("worker", [KEY, POLICY, KAFKA, REDIS]),
        ("exporter", [POLICY, PRICES, STATUS, REDIS]),
        ("client", [KAFKA, REDIS]),
        ("intake", [TOKENS, KAFKA]),
    ],
)
def test_all_problems_of_a_role_are_shown_at_once(
    tmp_path: Path, role: str | None, expected: list[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "exporter: {policies: [absent.yaml], price_book: no, status_page: no}\n"
        "intake: {tokens_file: absent.yaml}\n"
    )
    roles = [] if role is None else ["--role", role]
    done = run("--config", file, "config", "check", *roles, **REFUSED)
    assert done.exit_code == 2
    lines = [line.removeprefix("tokenpulse: ") for line in done.stderr.splitlines()]
    assert len(lines) == len(expected), lines
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


def test_a_client_needs_no_key(broker: Broker, redis_server: RedisServer) -> None:
    settings = Settings(kafka=broker.new_kafka(), redis={"url": redis_server.url})
    assert run("config", "check", settings=settings).exit_code == 2
    done = run("config", "check", "--role", "client", settings=settings)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("\nsettings, Kafka and Redis are fine\n")
    told = [line for line in done.stdout.splitlines() if line.startswith("# Redis: ")]
    assert told[0].startswith("# Redis: one server, without TLS; version ")
    assert "append-only file off; maxmemory off; maxmemory-policy noeviction" in told[0]
    assert any("a restart goes back to the last snapshot" in line for line in told[1:])
    assert any("set maxmemory" in line for line in told[1:])
    done = run("config", "check", "--role", "exporter", settings=settings)
    assert done.stdout.endswith("\nsettings and Redis are fine\n"), done.output


def test_wrong_variables_and_wrong_values_are_shown_together() -> None:
    wrong: dict[str, Any] = {
        "TOKENPULSE_KAFKA_TOPIC": "x",
        "TOKENPULSE_KAFKA__PARTITIONS": "many",
        "TOKENPULSE_REDIS__TIMEOUT_S": "0",
    }
    lines = run("config", "check", **wrong).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        *("TOKENPULSE_KAFKA_TOPIC", "kafka.partitions", "redis.timeout_s")
    ]


def test_all_lists_that_are_not_json_are_named_without_their_value() -> None:
    wrong: dict[str, Any] = {
        "TOKENPULSE_KAFKA_TOPIC": "x",
        "TOKENPULSE_WORKER__TTFT_TARGETS_S": "0.3, hunter2",
        "TOKENPULSE_EXPORTER__POLICIES": "default",
        "TOKENPULSE_LATENCY": "hunter2",
        "TOKENPULSE_DAILY__MAIL_TO": '["a@b.example"]',
    }
    done = run("config", "check", **wrong)
    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        *("TOKENPULSE_KAFKA_TOPIC", "TOKENPULSE_WORKER__TTFT_TARGETS_S", "TOKENPULSE_LATENCY"),
        "TOKENPULSE_EXPORTER__POLICIES",
    ]
    assert "hunter2" not in done.output
