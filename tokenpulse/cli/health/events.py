"""`tokenpulse health events`."""

import asyncio
import time

import click
from aiokafka import AIOKafkaConsumer

from streams.config.settings import Settings, load_settings
from streams.kafka.topics import check_topics
from streams.security.clients import client_kwargs
from tokenpulse.cli.health import exit_with


@click.command()
@click.option(
    "--within",
    type=click.IntRange(1, 3_650 * 86_400),
    default=60,
    show_default=True,
    help="Seconds.",
)
@click.pass_context
def events(ctx: click.Context, within: int) -> None:
    """Check that Kafka received an event recently."""
    settings = load_settings(ctx.obj)
    since_ms = round(time.time() * 1_000) - within * 1_000
    received = asyncio.run(_has_event_since(settings, since_ms))
    topic = settings.kafka.topic
    exit_with(None if received else f"{topic}: no event in the last {within} s")


async def _has_event_since(settings: Settings, since_ms: int) -> bool:
    kafka = settings.kafka
    await check_topics(settings)  # fails with one line if no broker answers
    consumer = AIOKafkaConsumer(
        kafka.topic, bootstrap_servers=kafka.bootstrap, **client_kwargs(kafka)
    )
    await consumer.start()
    try:
        searched = dict.fromkeys(consumer.assignment(), since_ms)
        offsets = await consumer.offsets_for_times(searched)
        # Kafka answers None for a partition without a record since then.
        return any(offset is not None for offset in offsets.values())
    finally:
        await consumer.stop()
