"""Fixtures of the exporter's process: a Redis of its own, and a refresh thread."""

from collections.abc import Callable, Iterator

import pytest

from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from tests.support.exporter_http import ready, write_now
from tests.support.servers import wait_until


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


@pytest.fixture
def ready_refresher(
    refreshing: Callable[[Settings], Refresher],
) -> Callable[[Settings], Refresher]:
    """Writes an event of now, starts a refresher and waits until it is ready."""

    def start(settings: Settings) -> Refresher:
        write_now(settings)
        refresher = refreshing(settings)
        wait_until(lambda: ready(refresher), "ready")
        return refresher

    return start
