"""Fixtures of the exporter's process: a Redis of its own, and a refresh thread."""

from collections.abc import Iterator

import pytest

from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from tests.support.exporter_http import OwnRedis


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
