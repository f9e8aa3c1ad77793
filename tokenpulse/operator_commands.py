"""Commands of an operator to the worker of a partition, and what a user reads of their end."""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from streams.config.settings import Settings
from streams.query.partitions import Partitions, PartitionStatus
from streams.store.contract import OperatorCommand
from tokenpulse.option_types import Words
from tokenpulse.redis_call import run_with_redis

T = TypeVar("T")

REASON = click.option("--reason", type=Words(), required=True, help="Reason; the worker logs it.")


def ask_partitions(settings: Settings, call: Callable[[Partitions], Awaitable[T]]) -> T:
    """Run a query of the partitions, and return its result."""
    kafka, stale_after_s = settings.kafka, settings.exporter.stale_after_s
    return run_with_redis(
        settings,
        lambda client: call(Partitions(client, kafka.group, kafka.topic, stale_after_s)),
    )


def send(
    settings: Settings, partition: int, command: OperatorCommand, within_s: float
) -> PartitionStatus:
    """Send a command to the worker of a partition; return the status after it was acknowledged.

    Exits with status 1 if no worker acknowledges it in time.
    """
    try:
        return ask_partitions(
            settings, lambda partitions: partitions.send(partition, command, within_s)
        )
    except TimeoutError:
        click.echo(
            f"tokenpulse: partition {partition}: no worker acknowledged the command within "
            f"{within_s:.0f} s; look at its log and at `tokenpulse partitions list`, "
            "then send the command again",
            err=True,
        )
        sys.exit(1)


def halt_text(status: PartitionStatus) -> str:
    """Return why and at which offset a partition is halted; empty if it is not."""
    return "" if status.halted is None else f"{status.halted}@{status.halted_at}"
