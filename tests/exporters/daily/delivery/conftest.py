"""Fixtures of the delivery tests: a mail server, a Slack webhook, a delivery, and short waits."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from exporters.daily.day.facts import DailyFacts
from exporters.daily.delivery import deliver as delivery
from exporters.daily.delivery.deliver import DeliveryOutcome, deliver
from streams.config.settings import Daily
from streams.store.servers.client import connect
from tests.support.daily_samples import some_facts
from tests.support.exporter_state import settings_for
from tests.support.mailboxes import Channel, Mailbox, serve_mail
from tests.support.servers import RedisServer


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    yield from serve_mail(Mailbox())


@pytest.fixture
def channel() -> Iterator[Channel]:
    found = Channel()
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.add_routes([web.post("/services/T0/B0/hunter2", found.take)])
    runner = web.AppRunner(app)

    async def begin() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/T0/B0/hunter2"

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def webhook_file(tmp_path: Path, channel: Channel) -> Path:
    file = tmp_path / "webhook"
    file.write_text(f"{channel.url}\n")
    return file


@pytest.fixture
def send(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    """Delivers some facts as settings say; (recipient, words, failed) of each."""

    def call(
        daily: dict[str, Any], facts: DailyFacts | None = None, again: bool = False
    ) -> list[tuple[str, str, bool]]:
        settings = settings_for(redis_server.url).model_copy(update={"daily": Daily(**daily)})

        async def go() -> list[DeliveryOutcome]:
            client = connect(settings.redis.url, 5)
            try:
                return await deliver(settings, client, facts or some_facts(), again)
            finally:
                await client.aclose()

        return [(one.recipient, one.words, one.failed) for one in asyncio.run(go())]

    return call


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(delivery, "WAIT_MAX_S", 0.02)
