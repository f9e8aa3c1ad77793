"""What the exporter answers while Redis hangs, dies and comes back."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import redis

from exporters.catalogue.pipeline import EXPORTER
from exporters.server.refresher import Refresher
from tests.support.checks import not_none
from tests.support.exporter_http import (
    OwnRedis,
    asked,
    problem,
    quick,
    ready,
    write_now,
)
from tests.support.exporter_state import (
    Samples,
    StateWriter,
    event,
    number,
    parsed,
    value,
)
from tests.support.servers import wait_until


def text_of(refresher: Refresher) -> Samples:
    return parsed(refresher.export().body(openmetrics=False, zipped=False))


SILENT = {spec.name for spec in EXPORTER.specs} | {"tokenpulse_state_readable"}


def check_silence(refresher: Refresher) -> None:
    samples = text_of(refresher)
    assert {name for name, _ in samples} <= SILENT
    assert value(samples, "tokenpulse_state_readable") == 0
    assert asked(refresher, "/readyz")[0] == 503
    assert asked(refresher, "/metrics")[0] == 200


def test_before_the_first_reading_there_is_silence(unused_port: int) -> None:
    refresher = Refresher(quick(f"redis://127.0.0.1:{unused_port}/0"), {})
    assert problem(refresher) == "no reading of the state has finished yet"
    assert value(text_of(refresher), "tokenpulse_state_readable") == 0


def test_a_redis_that_dies_silences_the_numbers_and_they_recover(
    own_redis: OwnRedis, ready_refresher: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    refresher = ready_refresher(settings)
    samples = text_of(refresher)
    assert value(samples, "tokenpulse_state_readable") == 1
    assert value(samples, "tokenpulse_exporter_refresh_failures_total") == 0
    assert any(name == "tokenpulse_requests_total" for name, _ in samples)

    own_redis.kill()
    wait_until(lambda: not ready(refresher), "not ready")
    # The reading that runs when Redis dies is that of the state, or that of the source counts.
    assert "cannot read the " in not_none(problem(refresher))
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
    own_redis: OwnRedis, ready_refresher: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    refresher = ready_refresher(settings)
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
    own_redis: OwnRedis, ready_refresher: Callable[..., Any]
) -> None:
    settings = quick(own_redis.url)
    refresher = ready_refresher(settings)
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
