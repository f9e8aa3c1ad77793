"""The page of an exporter whose worker counted events of 50 models in 10 regions, all outcomes."""

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec

from streams.config.settings import Settings, load_settings
from streams.kafka.producer import EventProducer
from tokenpulse.local.stack import LocalStack

MODELS, REGIONS = 50, 10
CHANNELS = ("direct", "bedrock", "vertex")
OUTCOMES = ("success", "server_error", "timeout", "overloaded", "rate_limited", "client_error")
EVENTS_EACH = 4


def exported_page(channels: int = 1) -> list[str]:
    """Return the samples of the exporter once all events are counted, without comments.

    `channels`: how many of CHANNELS each model has in each region.
    """
    expected = MODELS * REGIONS * channels * len(OUTCOMES)
    settings = load_settings(overrides={"kafka": {"partitions": 2}, "exporter": {"port": 0}})
    with LocalStack(settings, workers=1, exporter=True, simulate=False) as stack:
        asyncio.run(_send(stack.settings, CHANNELS[:channels]))
        url = f"http://127.0.0.1:{stack.settings.exporter.port}/metrics"
        for _ in range(120):
            with urllib.request.urlopen(url, timeout=30) as answer:
                lines = answer.read().decode().splitlines()
            samples = [line for line in lines if line and not line.startswith("#")]
            if sum(line.startswith("tokenpulse_requests_total{") for line in samples) >= expected:
                return samples
            time.sleep(1)
    raise SystemExit(f"{url}: fewer than {expected} request counters after 120 s")


def _events(end_ms: int, channels: tuple[str, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the events of the last minute before `end_ms`, epoch ms."""
    places = [
        (model, region, channel, outcome)
        for model in range(MODELS)
        for region in range(REGIONS)
        for channel in channels
        for outcome in OUTCOMES
    ]
    count = len(places) * EVENTS_EACH
    for number in range(count):
        model, region, channel, outcome = places[number % len(places)]
        event: dict[str, Any] = {
            "request_id": f"large-{number}",
            "ended_at": end_ms - 60_000 + 60_000 * number // count,
            "model": f"model-{model:02d}",
            "region": f"region-{region}",
            "channel": channel,
            "service_tier": "standard",
            "customer_id": f"customer-{number % 100}",
            "outcome": outcome,
        }
        if outcome == "success":
            event |= {"stream": True, "ttft_ms": 100 + number % 400, "duration_ms": 2_000}
            event |= {"input_tokens": 1_000, "cached_input_tokens": 600, "output_tokens": 50}
        yield event["request_id"].encode(), msgspec.json.encode(event)


async def _send(settings: Settings, channels: tuple[str, ...]) -> None:
    """Write the events to the embedded broker."""
    async with EventProducer(settings.kafka, compression="none") as producer:
        await producer.send_many(list(_events(time.time_ns() // 1_000_000, channels)))
        await producer.flush()
