"""The exporter's pages: formats, the board, and the process that serves them."""

import asyncio
import gzip
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from subprocess import Popen
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from redis import Redis

from exporters.catalogue.pipeline import EXPORTER, EXPORTER_MEMORY_LIMIT, PIPELINE
from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from streams.errors import ConfigError
from streams.http.listener import check_address
from tests.support.exporter_http import OwnRedis, asked, problem, quick, write_now
from tests.support.exporter_state import (
    parsed,
    settings_for,
)
from tests.support.servers import RedisServer, wait_until
from tests.support.status_pages import page_file
from tokenpulse.local.embedded import environment, free_port

OPENMETRICS_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


# -- answers ---------------------------------------------------------------------------------------


def test_the_format_is_the_one_asked_for(
    own_redis: OwnRedis, ready_refresher: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    refresher = ready_refresher(settings)
    refresher.thread.stop()  # so that all answers are about the same export
    _, headers, plain = asked(refresher, "/metrics")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in headers
    _, headers, openmetrics = asked(refresher, "/metrics", Accept=OPENMETRICS_ACCEPT)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n")
    families = text_string_to_metric_families(openmetrics.decode())
    # A limit of memory is there only if the system sets one.
    own = {spec.name for spec in EXPORTER.specs} - {EXPORTER_MEMORY_LIMIT.name}
    assert {family.name for family in families} >= {name.removesuffix("_total") for name in own}
    for accepted, zipped in (("gzip, deflate", True), ("gzip;q=0", False), ("br", False)):
        _, headers, body = asked(refresher, "/metrics", **{"Accept-Encoding": accepted})
        assert (headers.get("Content-Encoding") == "gzip") == zipped
        assert (gzip.decompress(body) if zipped else body) == plain
    assert {name for name, _ in parsed(plain)} >= {*own, PIPELINE.specs[0].name}


def test_the_first_page_is_the_board_and_says_why_there_is_nothing_yet(unused_port: int) -> None:
    refresher = Refresher(quick(f"redis://127.0.0.1:{unused_port}/0"), {})
    status, headers, body = asked(refresher, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"Starting</span>" in body
    assert b"No numbers yet" in body
    assert all(path in body for path in (b"metrics", b"readyz"))
    assert asked(refresher, "/nothing")[0] == 404


def test_the_board_has_facts_while_there_is_a_state_and_else_the_reason(
    own_redis: OwnRedis, refreshing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(own_redis.url)
    refresher = refreshing(settings)
    assert (refresher.live().facts, refresher.live().problem) == (None, problem(refresher))
    assert not refresher.live().nothing_counted  # nothing was read yet
    assert refresher.live().starting
    wait_until(lambda: refresher.live().nothing_counted, "an empty Redis")
    assert refresher.live().starting
    monkeypatch.setattr("exporters.server.refresher._STARTING_S", 0.0)
    assert not refresher.live().starting
    assert "no worker has counted" in (refresher.live().problem or "")
    write_now(settings)
    wait_until(lambda: refresher.live().facts is not None, "facts")
    first = refresher.live()
    assert (first.problem, first.facts.requests, first.nothing_counted) == (None, 1, False)
    wait_until(lambda: refresher.live().made_at > first.made_at, "news")
    own_redis.kill()
    wait_until(lambda: refresher.live().facts is None, "no facts")
    # The reading that runs when Redis dies is that of the state, or that of the source counts.
    assert "cannot read the " in refresher.live().problem
    assert not refresher.live().nothing_counted


# -- the process -----------------------------------------------------------------------------------


def exporter_process(settings: Settings) -> Popen[bytes]:
    own = {name: text for name, text in os.environ.items() if not name.startswith("TOKENPULSE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tokenpulse.cli.main", "exporter"],
        env=own | environment(settings),
        stderr=subprocess.PIPE,
    )


def fetched(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(
    number: Signals, redis_server: RedisServer, redis_client: Redis, unused_port: int
) -> None:
    settings = quick(redis_server.url, port=unused_port)
    write_now(settings)
    process = exporter_process(settings)
    try:
        wait_until(lambda: fetched(f"http://127.0.0.1:{unused_port}/readyz") == 200, "ready")
        process.send_signal(number)
        assert process.wait(30) == 0
        assert b"Traceback" not in process.communicate()[1]
    finally:
        process.kill()


def test_a_port_in_use_is_one_line_that_says_what_to_do(redis_server: RedisServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = exporter_process(quick(redis_server.url, port=port))
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    (line,) = said.decode().splitlines()
    assert f"exporter.port: port {port} on 127.0.0.1 is in use" in line
    assert "TOKENPULSE_EXPORTER__PORT" in line


@pytest.mark.parametrize(
    ("name", "value"), [("policies", ("/no/such.yaml",)), ("price_book", "/no/such.yaml")]
)
def test_a_file_that_cannot_be_used_is_told_to_whom_starts_the_exporter(
    name: str, value: tuple[str] | str
) -> None:
    changed: dict[str, Any] = {name: value}
    settings = settings_for("redis://127.0.0.1:1/0", **changed)
    with pytest.raises(ConfigError, match=r"/no/such\.yaml: .*[Nn]o such file.*; ") as refused:
        Refresher(settings, {})
    assert "\n" not in str(refused.value)


def test_the_status_page_is_alone_on_a_port_of_its_own(
    redis_server: RedisServer, unused_port: int, tmp_path: Path
) -> None:
    status_port = free_port()
    settings = quick(
        redis_server.url,
        port=unused_port,
        status_page=page_file(tmp_path),
        status_port=status_port,
    )
    process = exporter_process(settings)
    try:
        page = f"http://127.0.0.1:{status_port}"
        wait_until(lambda: fetched(f"{page}/") == 200, "the status page", 30)
        assert fetched(f"{page}/metrics") == 404
        assert fetched(f"http://127.0.0.1:{unused_port}/status") == 404
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_host_that_is_no_name_is_one_line(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^exporter\.host: cannot listen on .* is no host name;"):
        asyncio.run(check_address(host, 0, "exporter", "port", "host"))
