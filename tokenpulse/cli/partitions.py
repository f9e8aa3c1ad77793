"""`tokenpulse partitions`: list partitions, and send operator commands to halted ones."""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

import click

from streams.query.instants import rfc3339_ms
from streams.query.partitions import Partitions, PartitionStatus, new_command
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import Words
from tokenpulse.redis_call import run_with_redis
from tokenpulse.report_tables import table

T = TypeVar("T")

ACKNOWLEDGED_WITHIN_S = 30.0
REASON = click.option("--reason", type=Words(), required=True, help="Reason; the worker logs it.")
COLUMNS = (
    *("PARTITION", "OFFSET", "LAG", "WATERMARK", "WORKER", "HEARTBEAT"),
    *("LOST", "DUPLICATES", "HALTED"),
)


@click.group()
def partitions() -> None:
    """List partitions, and resume halted ones."""


@partitions.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def partitions_list(ctx: click.Context, as_json: bool) -> None:
    """Show the status of every partition: its offset, its worker, and why it is halted."""
    statuses = _with_partitions(ctx, lambda partitions: partitions.statuses())
    if as_json:
        click.echo(json.dumps([asdict(status) for status in statuses], indent=1))
    else:
        _print_table(statuses)


@partitions.command("resume")
@click.argument("partition", type=click.IntRange(min=0))
@REASON
@click.pass_context
def partitions_resume(ctx: click.Context, partition: int, reason: str) -> None:
    """Resume a halted partition at the offset where it stopped.

    If it was halted for too many dead letters, the worker accepts the records up to the present end
    of the log and sends the bad ones to the dead-letter topic.
    """
    _send(ctx, partition, "resume", None, reason)


@partitions.command("move")
@click.argument("partition", type=click.IntRange(min=0))
@click.option("--to", type=click.IntRange(min=0), required=True, help="Offset to resume at.")
@REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def partitions_move(ctx: click.Context, partition: int, to: int, reason: str, yes: bool) -> None:
    """Resume a halted partition at another offset.

    Use it to skip records that cannot be read, or to start on a topic that was created again. The
    skipped records count as lost, and windows that contain them are incomplete.
    """
    if not yes:
        status = _with_partitions(ctx, lambda partitions: partitions.check(partition, to))
        click.confirm(
            f"partition {partition} is halted at offset {status.halted_at} ({status.halted}); "
            f"resume at {to}, and never count the records between?",
            abort=True,
        )
    _send(ctx, partition, "move", to, reason)


def _with_partitions(ctx: click.Context, call: Callable[[Partitions], Awaitable[T]]) -> T:
    settings = load_client_settings(ctx.obj)
    kafka, stale_after_s = settings.kafka, settings.exporter.stale_after_s
    return run_with_redis(
        settings,
        lambda client: call(Partitions(client, kafka.group, kafka.topic, stale_after_s)),
    )


def _send(ctx: click.Context, partition: int, kind: str, to: int | None, reason: str) -> None:
    """Send a command to the worker of a partition and print the result."""
    command = new_command(kind, to, reason)
    try:
        status = _with_partitions(
            ctx, lambda partitions: partitions.send(partition, command, ACKNOWLEDGED_WITHIN_S)
        )
    except TimeoutError:
        click.echo(
            f"tokenpulse: partition {partition}: no worker acknowledged the command within "
            f"{ACKNOWLEDGED_WITHIN_S:.0f} s; look at its log and at `tokenpulse partitions list`, "
            "then send the command again",
            err=True,
        )
        sys.exit(1)
    if status.halted is not None:
        click.echo(
            f"tokenpulse: partition {partition}: worker {status.worker} acknowledged the command, "
            f"but the partition is halted: {_halt(status)}: {status.halted_detail}",
            err=True,
        )
        sys.exit(1)
    place = "where it stopped" if to is None else f"at offset {to}"
    click.echo(f"partition {partition}: worker {status.worker} resumes {place}")


def _halt(status: PartitionStatus) -> str:
    return "" if status.halted is None else f"{status.halted}@{status.halted_at}"


def _print_table(statuses: Sequence[PartitionStatus]) -> None:
    rows = [
        (
            *(status.partition, status.offset, status.lag),
            None if status.watermark_ms is None else rfc3339_ms(status.watermark_ms),
            status.worker,
            None if status.pulse_age_s is None else f"{status.pulse_age_s:.0f} s ago",
            *(status.lost_records, status.duplicates, _halt(status) or None),
        )
        for status in statuses
    ]
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    for line in table([COLUMNS, *texts]):
        click.echo(line)
    for status in statuses:
        if status.halted_detail is not None:
            click.echo(f"partition {status.partition}: {status.halted_detail}")
