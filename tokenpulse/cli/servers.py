"""`tokenpulse topics` and `tokenpulse config`: set up and check Kafka, Redis and the settings."""

import asyncio

import click

from streams.config.settings import load_settings
from streams.config.yaml_file import to_yaml
from streams.errors import ConfigError
from streams.kafka.topic_settings import (
    partitions_warning,
    read_topic_settings,
    topic_warnings,
)
from streams.kafka.topics import create_topics
from streams.security.clients import client_kwargs
from tokenpulse.config_check import ROLES, describe_redis, problems


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
@click.option(
    "--role",
    type=click.Choice([*ROLES]),
    default="all",
    show_default=True,
    help="Check what this process needs: a client needs no key and no files.",
)
@click.pass_context
def config_check(ctx: click.Context, role: str) -> None:
    """Show the effective settings without secrets, and check them, Kafka and Redis.

    Comments below the settings say of which kind Redis is, and its limits. All problems are
    shown at once, and then the exit status is 2. Warns of settings of existing topics by which
    records or archived states would be lost.
    """
    settings = load_settings(ctx.obj)
    click.echo(to_yaml(settings.model_dump(mode="json")).rstrip())
    if lines := list(problems(settings, role)):
        raise ConfigError("\n".join(lines))
    if role == "intake":
        click.echo("settings and Kafka are fine")
        return
    for line in describe_redis(settings):
        click.echo(f"# Redis: {line}")
    if role == "exporter":
        click.echo("settings and Redis are fine")
        return
    found = asyncio.run(read_topic_settings(settings.kafka, client_kwargs(settings.kafka)))
    for warning in filter(
        None, [partitions_warning(settings.kafka, found), *topic_warnings(settings, found)]
    ):
        click.echo(f"warning: {warning}", err=True)
    click.echo("settings, Kafka and Redis are fine")
