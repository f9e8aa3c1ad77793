"""An exporter process among clients that are many, slow or silent, and without files to open."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import redis

from tests.support.exporter_http import OwnRedis, quick, write_now
from tests.support.exporter_process import ExporterProcess
from tests.support.servers import wait_until
from tests.support.slow_clients import KINDS, fetch, open_files, slow_clients, slowest

REFRESHED = re.compile(rb"^tokenpulse_exporter_refreshed_timestamp_seconds (\S+)", re.M)
# `scrape_timeout` of the shipped Prometheus; on an idle machine a scrape takes milliseconds.
MOST_S = 4.0
SHORT = {"idle_timeout_s": 2, "header_timeout_s": 2, "body_timeout_s": 2, "send_timeout_s": 2}
# Fewer of those that make the server write: hundreds of MB, which take their time to copy.
COUNTS = {"reader": 40, "stream": 150}
IS_READABLE = b"\ntokenpulse_state_readable 1\n"


@pytest.fixture
def exporter(
    own_redis: OwnRedis, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ExporterProcess]:
    """An exporter with an event; the parameter has its limits of connections."""
    limits = getattr(request, "param", {})
    settings = quick(own_redis.url, refresh_interval_s=1, connections=limits)
    write_now(settings)
    with ExporterProcess(settings, tmp_path / "exporter.log") as process:
        wait_until(lambda: IS_READABLE in fetch(process.port)[0], "it reads the state", 60)
        yield process


def refreshed_at(process: ExporterProcess) -> float:
    found = REFRESHED.search(fetch(process.port)[0])
    assert found is not None
    return float(found[1])


def scrape_s(process: ExporterProcess) -> float:
    page, took_s = fetch(process.port)
    assert IS_READABLE in page
    return took_s


def goes_on(process: ExporterProcess) -> Any:
    """Whether the state was read again since now."""
    before = refreshed_at(process)
    return lambda: refreshed_at(process) > before


def test_1100_idle_connections_delay_no_scrape_and_leave_nothing_behind(
    exporter: ExporterProcess,
) -> None:
    before = open_files(exporter.pid)
    with slow_clients(exporter.port, "idle", 1_100):
        assert slowest(lambda: scrape_s(exporter), 20) < MOST_S
        assert open_files(exporter.pid) - before <= exporter.settings.exporter.connections.max_open
        wait_until(goes_on(exporter), "the state is read all the time")
    wait_until(lambda: open_files(exporter.pid) <= before + 2, "all are closed")
    assert scrape_s(exporter) < MOST_S
    assert b"ok" in fetch(exporter.port, "/healthz")[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exporter", [SHORT], indirect=True)
def test_slow_clients_of_each_kind_delay_no_scrape_and_are_closed_in_time(
    exporter: ExporterProcess, kind: str
) -> None:
    before = open_files(exporter.pid)
    with slow_clients(exporter.port, kind, COUNTS.get(kind, 250)):
        assert slowest(lambda: scrape_s(exporter), 20) < MOST_S
        if kind != "stream":  # a stream that is quiet is no slow client; its number has a limit
            wait_until(lambda: open_files(exporter.pid) <= before + 2, "closed after 2 s", 60)
        assert open_files(exporter.pid) <= before + exporter.settings.exporter.connections.max_open
        wait_until(goes_on(exporter), "the state is read all the time")
    wait_until(lambda: open_files(exporter.pid) <= before + 2, "all are closed")


def test_open_boards_have_a_limit_for_each_client(exporter: ExporterProcess) -> None:
    most = exporter.settings.exporter.max_streams_per_client
    with slow_clients(exporter.port, "stream", most):
        wait_until(lambda: open_files(exporter.pid) > most, "they are open")
        with pytest.raises(URLError, match="503"):
            fetch(exporter.port, "/board/events")
    wait_until(lambda: open_files(exporter.pid) < most, "they are closed")


def test_without_files_to_open_it_goes_on_as_soon_as_there_are_some(
    exporter: ExporterProcess, own_redis: OwnRedis
) -> None:
    exporter.limit_files(8)  # less than it has open: a connection that is lost is not replaced
    with redis.Redis.from_url(own_redis.url) as client:
        for _ in range(3):  # each refresh needs a new connection to Redis, and gets none
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.3)
    wait_until(lambda: "Too many open files" in exporter.log, "it is out of files")
    with contextlib.suppress(OSError):
        fetch(exporter.port, timeout_s=1)
    exporter.limit_files(1_024)
    wait_until(lambda: IS_READABLE in fetch(exporter.port)[0], "it reads the state again")
    wait_until(goes_on(exporter), "again and again")
    assert "the refresh thread has ended" not in exporter.log


def test_connections_leave_files_for_the_rest(own_redis: OwnRedis, tmp_path: Path) -> None:
    settings = quick(own_redis.url)
    write_now(settings)
    with ExporterProcess(settings, tmp_path / "exporter.log", files=128) as process:
        wait_until(lambda: IS_READABLE in fetch(process.port)[0], "it reads the state", 60)
        with slow_clients(process.port, "idle", 300):
            assert slowest(lambda: scrape_s(process), 20) < MOST_S
            wait_until(goes_on(process), "the state is read all the time")
        assert "Too many open files" not in process.log
