"""The `tokenpulse partitions` commands: how partitions stand, and orders for halted ones."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from streams.config.settings import load_settings

if TYPE_CHECKING:
    from streams.query.partitions import Partitions, Standing

T = TypeVar("T")

OBEYED_WITHIN_S = 30.0
REASON = click.option("--reason", required=True, help="Why; goes into the worker's log.")


@click.group()
def partitions() -> None:
    """Partitions of the event topic: how they stand, and what to do with a halted one."""


@partitions.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def partitions_list(ctx: click.Context, as_json: bool) -> None:
    """Show how every partition stands: what is counted, by whom, and why one is halted."""
    found = _with_partitions(ctx, lambda known: known.standings())
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        _print_table(found)


@partitions.command("resume")
@click.argument("partition", type=click.IntRange(min=0))
@REASON
@click.pass_context
def partitions_resume(ctx: click.Context, partition: int, reason: str) -> None:
    """Let a halted partition go on where it stopped.

    Halted for too many dead letters, the records up to the log's present end are let through, the
    bad ones to the dead-letter topic.
    """
    _give(ctx, partition, "resume", None, reason)


@partitions.command("move")
@click.argument("partition", type=click.IntRange(min=0))
@click.option("--to", type=click.IntRange(min=0), required=True, help="Offset to go on at.")
@REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def partitions_move(ctx: click.Context, partition: int, to: int, reason: str, yes: bool) -> None:
    """Let a halted partition go on at another offset.

    To skip records that cannot be read, or to begin on a topic that was made again. What is skipped
    counts as lost, and windows that hold it are not complete any more.
    """
    if not yes:
        standing = _with_partitions(ctx, lambda known: known.check(partition, to))
        click.confirm(
            f"partition {partition} is halted at offset {standing.halted_at} "
            f"({standing.halted}); go on at {to}, and never count what lies between?",
            abort=True,
        )
    _give(ctx, partition, "move", to, reason)


def _with_partitions(ctx: click.Context, call: "Callable[[Partitions], Awaitable[T]]") -> T:
    from streams.query.partitions import Partitions
    from streams.store.redis import connected

    settings = load_settings(ctx.obj)
    kafka, stale_after_s = settings.kafka, settings.exporter.stale_after_s

    async def ask() -> T:
        client = connected(settings.redis)
        try:
            return await call(Partitions(client, kafka.group, kafka.topic, stale_after_s))
        finally:
            await client.aclose()

    return asyncio.run(ask())


def _give(ctx: click.Context, partition: int, kind: str, to: int | None, reason: str) -> None:
    from streams.query.partitions import new_order

    order = new_order(kind, to, reason)
    try:
        stands = _with_partitions(ctx, lambda known: known.give(partition, order, OBEYED_WITHIN_S))
    except TimeoutError:
        click.echo(
            f"tokenpulse: partition {partition}: no worker obeyed within {OBEYED_WITHIN_S:.0f} s; "
            "look at its log and at `tokenpulse partitions list`, then give the order again",
            err=True,
        )
        sys.exit(1)
    if stands.halted is not None:
        click.echo(
            f"tokenpulse: partition {partition}: worker {stands.worker} took the order, and the "
            f"partition is halted: {_halt(stands)}: {stands.halted_detail}",
            err=True,
        )
        sys.exit(1)
    where = "where it stopped" if to is None else f"at offset {to}"
    click.echo(f"partition {partition}: worker {stands.worker} goes on {where}")


def _halt(standing: "Standing") -> str:
    return "" if standing.halted is None else f"{standing.halted}@{standing.halted_at}"


def _print_table(found: "Sequence[Standing]") -> None:
    from streams.query.report import rfc3339_ms

    rows = [
        (
            *(one.partition, one.offset, one.lag),
            None if one.watermark_ms is None else rfc3339_ms(one.watermark_ms),
            one.worker,
            None if one.pulse_age_s is None else f"{one.pulse_age_s:.0f} s ago",
            *(one.lost_records, one.duplicates, _halt(one) or None),
        )
        for one in found
    ]
    head = (
        *("PARTITION", "OFFSET", "LAG", "WATERMARK", "WORKER", "PULSE"),
        *("LOST", "DUPLICATES", "HALTED"),
    )
    texts = [head, *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for text in texts:
        cells = (cell.ljust(width) for cell, width in zip(text, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    for one in found:
        if one.halted_detail is not None:
            click.echo(f"partition {one.partition}: {one.halted_detail}")
