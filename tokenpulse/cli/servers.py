"""`tokenpulse topics` and `tokenpulse config`: set up and check Kafka, Redis and the settings."""

import asyncio

import click

from streams.config.security import client_kwargs, redis_kwargs
from streams.config.settings import load_settings
from streams.config.yaml_file import to_yaml
from streams.kafka.topics import check_broker, create_topics, read_timestamp_warning
from streams.store.server_check import check_redis


@click.group()
def topics() -> None:
    """Create Kafka topics."""


@topics.command("create")
@click.pass_context
def topics_create(ctx: click.Context) -> None:
    """Create the event, dead-letter and archive topics, with partitions, retention and sizes."""
    for topic in asyncio.run(create_topics(load_settings(ctx.obj))):
        click.echo(str(topic))


@click.group()
def config() -> None:
    """Show and check the settings."""


@config.command("check")
@click.pass_context
def config_check(ctx: click.Context) -> None:
    """Show the effective settings without secrets, and check that Kafka and Redis answer.

    Warns if the event topic takes timestamps of senders without a limit.
    """
    settings = load_settings(ctx.obj)
    click.echo(to_yaml(settings.model_dump(mode="json")).rstrip())
    settings.worker.customer_secret()
    asyncio.run(check_broker(settings.kafka.bootstrap, **client_kwargs(settings.kafka)))
    asyncio.run(check_redis(settings.redis.url, **redis_kwargs(settings.redis)))
    if warning := asyncio.run(read_timestamp_warning(settings.kafka)):
        click.echo(f"warning: {warning}", err=True)
    click.echo("settings, Kafka and Redis are fine")
