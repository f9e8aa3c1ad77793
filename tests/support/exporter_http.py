"""An exporter's refresh thread and its pages, over a Redis of a test's own."""

import asyncio
import time
from typing import Any

import redis
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy

from exporters.server.http import create_app
from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from tests.support.exporter_state import (
    StateWriter,
    event,
    settings_for,
)
from tests.support.owned_process import OwnedProcess
from tests.support.servers import wait_until
from tokenpulse.local.embedded import free_port, redis_binary


class OwnRedis(OwnedProcess):
    """A Redis of one test, to be killed, stopped and started again on the same port."""

    def __init__(self) -> None:
        super().__init__("Redis")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        self.run([*command, "--save", "", "--appendonly", "no"])
        wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


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
