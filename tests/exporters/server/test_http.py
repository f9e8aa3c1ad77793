"""The exporter process: what it answers while Redis lives, hangs, dies and comes back."""

import asyncio
import gzip
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from signal import Signals
from subprocess import Popen
from typing import Any

import pytest
import redis
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from redis import Redis

from exporters.catalogue.pipeline import EXPORTER, PIPELINE
from exporters.server.http import create_app
from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from streams.errors import ConfigError
from tests.support.checks import not_none
from tests.support.exporter_state import (
    Samples,
    StateWriter,
    event,
    number,
    parsed,
    settings_for,
    value,
)
from tests.support.servers import RedisServer, wait_until
from tokenpulse.local.embedded import environment, free_port, redis_binary

OPENMETRICS_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


class OwnRedis:
    """A Redis of one test, to be killed, stopped and started again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
        )
        wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    server = OwnRedis()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def refreshing() -> Iterator[object]:
    """Starts refreshers and ends them."""
    started: list[Refresher] = []

    def start(settings: Settings) -> Refresher:
        refresher = Refresher(settings, {})
        refresher.thread.start()
        started.append(refresher)
        return refresher

    yield start
    for refresher in started:
        refresher.thread.stop()


def quick(url: str, **exporter: Any) -> Settings:
    settings = settings_for(url, **{"refresh_interval_s": 0.1, "stale_after_s": 60, **exporter})
    return settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"timeout_s": 0.2})}
    )


def write_now(settings: Settings, age_s: float = 0.0) -> None:
    """An event and a heartbeat, `age_s` old."""

    async def write() -> None:
        writer = StateWriter(settings)
        await writer.write(0, [event(time.time() - age_s)], time.time() - age_s)
        await writer.close()

    asyncio.run(write())


def problem(refresher: Refresher) -> str | None:
    return refresher.not_ready(time.time())


def ready(refresher: Refresher) -> bool:
    return problem(refresher) is None


def text_of(refresher: Refresher) -> Samples:
    return parsed(refresher.export().body(openmetrics=False, zipped=False))


def asked(
    refresher: Refresher, path: str, **headers: Any
) -> tuple[int, CIMultiDictProxy[str], bytes]:
    """(status, headers, body as sent) of a request to the web application."""

    async def ask() -> tuple[int, CIMultiDictProxy[str], bytes]:
        async with TestClient(TestServer(create_app(refresher)), auto_decompress=False) as client:
            answer = await client.get(
                path, headers=headers, skip_auto_headers=["Accept", "Accept-Encoding"]
            )
            return answer.status, answer.headers, await answer.read()

    return asyncio.run(ask())


SILENT = {spec.name for spec in EXPORTER.specs} | {"tokenpulse_state_readable"}


def check_silence(refresher: Refresher) -> None:
    samples = text_of(refresher)
    assert {name for name, _ in samples} <= SILENT
    assert value(samples, "tokenpulse_state_readable") == 0
    assert asked(refresher, "/readyz")[0] == 503
    assert asked(refresher, "/metrics")[0] == 200


# -- honest silence --------------------------------------------------------------------------------


def test_before_the_first_reading_there_is_silence(unused_port: int) -> None:
    refresher = Refresher(quick(f"redis://127.0.0.1:{unused_port}/0"), {})
    assert problem(refresher) == "no reading of the state has finished yet"
    assert value(text_of(refresher), "tokenpulse_state_readable") == 0


def test_a_redis_that_dies_silences_the_numbers_and_they_recover(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    write_now(settings)
    refresher = refreshing(settings)
    wait_until(lambda: ready(refresher), "ready")
    samples = text_of(refresher)
    assert value(samples, "tokenpulse_state_readable") == 1
    assert value(samples, "tokenpulse_exporter_refresh_failures_total") == 0
    assert any(name == "tokenpulse_requests_total" for name, _ in samples)

    own_redis.kill()
    wait_until(lambda: not ready(refresher), "not ready")
    assert "cannot read the state" in not_none(problem(refresher))
    assert "\n" not in not_none(problem(refresher))
    check_silence(refresher)
    assert refresher.not_alive() is None
    last_s = number(samples, "tokenpulse_exporter_refreshed_timestamp_seconds")
    text = text_of(refresher)
    assert number(text, "tokenpulse_exporter_refreshed_timestamp_seconds") >= last_s

    own_redis.start()  # it comes back empty
    wait_until(lambda: "no state of group" in (problem(refresher) or ""), "no state")
    assert value(text_of(refresher), "tokenpulse_state_readable") == 1
    write_now(settings)
    wait_until(lambda: ready(refresher), "ready again")
    assert number(text_of(refresher), "tokenpulse_exporter_refresh_failures_total") >= 1


def test_what_comes_back_with_redis_is_read_as_a_new_state(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    # A restored or rebuilt state counts its checkpoints anew: the same number, another content.
    settings = quick(own_redis.url, refresh_interval_s=1)
    at_s = time.time()

    def write(model: str) -> None:
        async def write() -> None:
            writer = StateWriter(settings)
            for _ in range(2):
                await writer.write(0, [event(at_s, model=model)], time.time())
            await writer.close()

        asyncio.run(write())

    def models() -> set[str]:
        return {
            dict(labels)["model"]
            for name, labels in text_of(refresher)
            if name == "tokenpulse_ttft_samples" and ("scope", "model") in labels
        }

    write("opus")
    refresher = refreshing(settings)
    wait_until(lambda: models() == {"opus"}, "the first state")
    own_redis.kill()
    wait_until(lambda: not ready(refresher), "not ready")
    own_redis.start()
    write("haiku")
    wait_until(lambda: ready(refresher), "ready again")
    assert models() == {"haiku"}


def test_a_redis_that_hangs_delays_no_scrape_and_then_silences_the_numbers(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    write_now(settings)
    refresher = refreshing(settings)
    wait_until(lambda: ready(refresher), "ready")
    own_redis.signal(signal.SIGSTOP)
    try:
        while ready(refresher):  # each of these is answered while Redis is not
            assert asked(refresher, "/metrics")[0] == 200
        check_silence(refresher)
        assert asked(refresher, "/healthz")[0] == 200
    finally:
        own_redis.signal(signal.SIGCONT)
    wait_until(lambda: ready(refresher), "ready again")


def test_a_damaged_state_is_silence_too(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    write_now(settings)
    refresher = refreshing(settings)
    wait_until(lambda: ready(refresher), "ready")
    key = f"tp:{{{settings.kafka.group}:{settings.kafka.topic}:0}}"
    with redis.Redis.from_url(own_redis.url) as client:
        whole = client.hget(key, "meta")
        client.hset(key, "meta", b"\x9a\x63 from the future")
        wait_until(lambda: not ready(refresher), "not ready")
        check_silence(refresher)
        client.hset(key, "meta", whole)
    wait_until(lambda: ready(refresher), "ready again")


def test_numbers_are_not_served_when_refreshing_has_stopped(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url, stale_after_s=0.5)
    write_now(settings)
    refresher = refreshing(settings)
    wait_until(lambda: refresher.export().readable, "readable")
    refresher.thread.stop()
    wait_until(lambda: not refresher.export().readable, "too old to be served")
    assert "the state was last read" in not_none(problem(refresher))
    check_silence(refresher)
    status, _, body = asked(refresher, "/healthz")
    assert (status, body) == (503, b"the refresh thread has ended\n")


def test_without_a_sign_of_life_it_is_not_ready_though_readable(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url, stale_after_s=30)
    write_now(settings, age_s=40)
    refresher = refreshing(settings)
    wait_until(lambda: "heartbeat" in (problem(refresher) or ""), "stale")
    status, _, body = asked(refresher, "/readyz")
    assert status == 503
    assert b"the newest heartbeat of any worker is 4" in body
    assert value(text_of(refresher), "tokenpulse_state_readable") == 1
    write_now(settings)
    wait_until(lambda: ready(refresher), "ready")
    assert asked(refresher, "/readyz")[::2] == (200, b"ok\n")


# -- answers ---------------------------------------------------------------------------------------


def test_the_format_is_the_one_asked_for(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    write_now(settings)
    refresher = refreshing(settings)
    wait_until(lambda: ready(refresher), "ready")
    refresher.thread.stop()  # so that all answers are about the same export
    _, headers, plain = asked(refresher, "/metrics")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in headers
    _, headers, openmetrics = asked(refresher, "/metrics", Accept=OPENMETRICS_ACCEPT)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n")
    families = text_string_to_metric_families(openmetrics.decode())
    assert {family.name for family in families} >= {
        spec.name.removesuffix("_total") for spec in EXPORTER.specs
    }
    for accepted, zipped in (("gzip, deflate", True), ("gzip;q=0", False), ("br", False)):
        _, headers, body = asked(refresher, "/metrics", **{"Accept-Encoding": accepted})
        assert (headers.get("Content-Encoding") == "gzip") == zipped
        assert (gzip.decompress(body) if zipped else body) == plain
    assert {name for name, _ in parsed(plain)} >= {
        *(spec.name for spec in EXPORTER.specs),
        PIPELINE.specs[0].name,
    }


def test_the_first_page_is_the_board_and_says_why_there_is_nothing_yet(unused_port: int) -> None:
    refresher = Refresher(quick(f"redis://127.0.0.1:{unused_port}/0"), {})
    status, headers, body = asked(refresher, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"no reading of the state has finished yet" in body
    assert all(path in body for path in (b"metrics", b"readyz"))
    assert asked(refresher, "/nothing")[0] == 404


def test_the_board_has_facts_while_there_is_a_state_and_else_the_reason(
    own_redis: OwnRedis, refreshing: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    refresher = refreshing(settings)
    assert (refresher.live().facts, refresher.live().problem) == (None, problem(refresher))
    wait_until(
        lambda: "no worker has counted" in (refresher.live().problem or ""), "an empty Redis"
    )
    write_now(settings)
    wait_until(lambda: refresher.live().facts is not None, "facts")
    first = refresher.live()
    assert (first.problem, first.facts.requests) == (None, 1)
    wait_until(lambda: refresher.live().made_at > first.made_at, "news")
    own_redis.kill()
    wait_until(lambda: refresher.live().facts is None, "no facts")
    assert "cannot read the state" in refresher.live().problem


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
    with pytest.raises(ConfigError, match=r"/no/such\.yaml: no such file; ") as refused:
        Refresher(settings, {})
    assert "\n" not in str(refused.value)
