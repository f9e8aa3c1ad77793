"""The command: help, settings and one-line errors."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.support.command import assert_one_line, run
from tests.support.paths import ROOT
from tests.support.servers import Broker, RedisServer
from tests.support.worker_process import (
    SECRET,
    tokenpulse,
    worker_settings,
)
from tokenpulse.cli.main import COMMANDS, HEALTH_COMMANDS, LazyGroup, main

ALL_COMMANDS = (
    *("up", "worker", "exporter", "replay", "report", "produce", "simulate"),
    "rejected",
    *("topics", "topics create", "config", "config check"),
    *("scenario", "scenario list", "scenario stop"),
    *("partitions", "partitions list", "partitions resume", "partitions move"),
    *("policy", "policy check", "policy import-openslo"),
    *("rules", "rules build", "backtest", "sla", "daily"),
    *("maintenance", "maintenance add", "maintenance list", "maintenance cancel"),
    *("health", "health worker", "health exporter", "health events", "health intake"),
)


# --- help and settings


@pytest.mark.parametrize("command", ["", *ALL_COMMANDS])
def test_every_command_has_help_that_says_what_it_does(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0
    usage, about, *_ = done.stdout.split("\n\n")
    assert usage.startswith("Usage: ")
    assert re.fullmatch(r"  [A-Z][^\n].*[.]", about, re.DOTALL)


def test_help_lists_every_command() -> None:
    for command in ALL_COMMANDS:
        assert re.search(rf"^  {command.split()[0]} ", run("--help").stdout, re.MULTILINE)


def test_the_list_of_commands_shows_the_first_line_of_each_ones_help() -> None:
    for group, table in ((main, COMMANDS), (main.commands["health"], HEALTH_COMMANDS)):
        assert isinstance(group, LazyGroup)
        for name, (_, line) in table.items():
            command = group.get_command(click.Context(group), name)
            assert command is not None
            assert (command.help or "").splitlines()[0] == line


@pytest.mark.parametrize("command", ["--help", "health --help", "health exporter", "health intake"])
def test_a_health_check_imports_neither_servers_nor_clients(command: str) -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from tokenpulse.cli.main import main\n"
        f"CliRunner().invoke(main, {command.split()!r})\n"
        "print(*{'numpy', 'redis', 'aiokafka', 'faust', 'aiohttp'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_an_unknown_setting_is_one_line_that_names_it(tmp_path: Path) -> None:
    assert_one_line(run("report", TOKENPULSE_KAFKA__TOPPIC="x"), "kafka.toppic: no such setting")
    file = tmp_path / "settings.yaml"
    file.write_text("redis: {timeout: 3}\n")
    assert_one_line(run("--config", file, "report"), f"{file}: redis.timeout: no such setting")
    assert_one_line(run("--config", tmp_path / "absent.yaml", "report"), "no such file")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--nope", "No such option: --nope; see `main --help`"),
        ("nope", "No such command 'nope'; see `main --help`"),
        ("replay", "Missing argument 'FILE'; see `main replay --help`"),
        ("report --by", "Option '--by' requires an argument; see `main report --help`"),
        ("report --nope", "No such option: --nope Did you mean --to? see `main report --help`"),
        (
            "report --step 3x",
            "Invalid value for '--step': '3x' is not a span; write 10s, 5m, 1h or 1d; see "
            "`main report --help`",
        ),
        ("health nope", "No such command 'nope'; see `main health --help`"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_the_help(arguments: str, line: str) -> None:
    done = run(*arguments.split())
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"Error: {line}\n")


def test_a_secret_that_is_too_short_is_not_shown() -> None:
    done = run("worker", TOKENPULSE_WORKER__CUSTOMER_KEY="hunter2")
    assert done.exit_code == 2
    assert "hunter2" not in done.output


def test_config_check_shows_what_is_in_force_and_hides_secrets(
    broker: Broker, redis_server: RedisServer
) -> None:
    settings = worker_settings(broker, redis_server.url)
    done = run("config", "check", settings=settings)
    assert done.exit_code == 0, done.output
    *lines, last = done.stdout.splitlines()
    assert last == "settings, Kafka and Redis are fine"
    assert "warning" not in done.stderr
    told = yaml.safe_load("\n".join(lines))
    assert told["kafka"]["topic"] == settings.kafka.topic
    assert told["worker"]["customer_key"] == "**********"
    assert SECRET not in done.output
    secret_url = redis_server.url.replace("redis://", "redis://someone:hunter2@")
    done = run("config", "check", settings=settings, TOKENPULSE_REDIS__URL=secret_url)
    assert done.exit_code == 2
    assert "hunter2" not in done.output
    assert "refuses the login" in done.stderr


# --- servers that do not answer


@pytest.mark.parametrize("command", ["worker", "produce -", "simulate --for 1s", "topics create"])
def test_no_broker_is_one_line(unused_port: int, redis_server: RedisServer, command: str) -> None:
    bootstrap = f"127.0.0.1:{unused_port}"
    done = run(
        *command.split(),
        send_in=b"",
        TOKENPULSE_KAFKA__BOOTSTRAP=bootstrap,
        TOKENPULSE_REDIS__URL=redis_server.url,
        TOKENPULSE_WORKER__CUSTOMER_KEY=SECRET,
    )
    assert_one_line(done, f"no Kafka broker answers at {bootstrap}: start it, or set")


@pytest.mark.parametrize("command", ["worker", "report"])
def test_no_redis_is_one_line_without_the_password(
    broker: Broker, unused_port: int, command: str
) -> None:
    done = run(
        command,
        TOKENPULSE_KAFKA__BOOTSTRAP=broker.bootstrap,
        TOKENPULSE_REDIS__URL=f"redis://me:hunter2@127.0.0.1:{unused_port}/0",
        TOKENPULSE_WORKER__CUSTOMER_KEY=SECRET,
    )
    assert_one_line(done, str(unused_port))
    assert "hunter2" not in done.output


@pytest.mark.parametrize("setting", ["local.kafka_port", "local.redis_port", "exporter.port"])
def test_a_port_in_use_is_one_line(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables: Any = {f"TOKENPULSE_{setting.upper().replace('.', '__')}": str(port)}
        done = tokenpulse("up", **variables)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"tokenpulse: {setting}: port {port} on 127.0.0.1 is in use: ")
