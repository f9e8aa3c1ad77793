"""The `tokenpulse health` commands: health checks of containers. Exit status 1: not well, and why.

Each asks for progress, not for an open port.
"""

import asyncio
import http
import http.client
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from streams.config.settings import Settings, load_settings

if TYPE_CHECKING:
    from streams.query.health import Progress

TIMEOUT_S = 5.0


@click.group()
def health() -> None:
    """Whether a part of Tokenpulse works, as its container's health check."""


@health.command("worker")
@click.pass_context
def health_worker(ctx: click.Context) -> None:
    """Whether the worker on this host leaves signs of life, and writes while records wait."""
    from streams.query.health import ill

    settings = load_settings(ctx.obj)
    found = asyncio.run(_progress(settings))
    _tell(ill(found, os.uname().nodename, time.time(), settings.exporter.stale_after_s))


@health.command("exporter")
@click.pass_context
def health_exporter(ctx: click.Context) -> None:
    """Whether the exporter on this host says that its numbers can be relied on (/readyz)."""
    _tell(_not_ready(load_settings(ctx.obj).exporter.port))


@health.command("events")
@click.option("--within", type=click.FloatRange(min=1), default=60, show_default=True, help="s")
@click.pass_context
def health_events(ctx: click.Context, within: float) -> None:
    """Whether Kafka got an event of late."""
    settings = load_settings(ctx.obj)
    since_ms = round((time.time() - within) * 1_000)
    arrived = asyncio.run(_arrived(settings, since_ms))
    _tell(None if arrived else f"{settings.kafka.topic}: no event in the last {within:g} s")


def _tell(problem: str | None) -> None:
    if problem is not None:
        click.echo(f"tokenpulse: {problem}", err=True)
        sys.exit(1)
    click.echo("ok")


async def _progress(settings: Settings) -> "list[Progress]":
    from streams.query.health import Progress
    from streams.store.reader import StateReader
    from streams.store.redis import connected

    client = connected(settings.redis)
    try:
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        snapshot = await reader.snapshot()
        views = {view.partition: view for view in snapshot.views}
        return [
            Progress(
                sign,
                views[sign.partition].offset if sign.partition in views else None,
                views[sign.partition].meta.written_at_ms / 1_000
                if sign.partition in views
                else None,
            )
            for sign in snapshot.heartbeats
        ]
    finally:
        await client.aclose()


def _not_ready(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the exporter does not answer at port {port}: {error!r}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else text


async def _arrived(settings: Settings, since_ms: int) -> bool:
    from aiokafka import AIOKafkaConsumer

    from streams.config.security import client_kwargs
    from streams.kafka.topics import check_topics

    kafka = settings.kafka
    await check_topics(settings)  # says in one line that no broker answers
    consumer = AIOKafkaConsumer(
        kafka.topic, bootstrap_servers=kafka.bootstrap, **client_kwargs(kafka)
    )
    await consumer.start()
    try:
        asked = dict.fromkeys(consumer.assignment(), since_ms)
        found = await consumer.offsets_for_times(asked)
        return any(one is not None for one in found.values())
    finally:
        await consumer.stop()
