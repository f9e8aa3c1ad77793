"""`tokenpulse partitions`: list partitions, resume them, and set a watermark back."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from streams.query.instants import rfc3339_ms
from streams.query.partitions import PartitionStatus, new_command
from streams.store.contract import CommandKind
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.operator_commands import REASON, ask_partitions, halt_text, send
from tokenpulse.option_types import Instant
from tokenpulse.report_tables import table

# A worker reads commands with its heartbeats; a reload may delay them.
ACKNOWLEDGED_WITHIN_S = 30.0
COLUMNS = (
    *("PARTITION", "OFFSET", "LAG", "WATERMARK", "WORKER", "HEARTBEAT"),
    *("LOST", "DUPLICATES", "HALTED"),
)


@click.group()
def partitions() -> None:
    """List partitions, resume halted ones, and set a watermark back."""


@partitions.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def partitions_list(ctx: click.Context, as_json: bool) -> None:
    """Show the status of every partition: its offset, its worker, and why it is halted."""
    settings = load_client_settings(ctx.obj)
    statuses = ask_partitions(settings, lambda partitions: partitions.statuses())
    if as_json:
        click.echo(json.dumps([_json(status) for status in statuses], indent=1))
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
    command = new_command(CommandKind.RESUME, None, reason)
    status = send(load_client_settings(ctx.obj), partition, command, ACKNOWLEDGED_WITHIN_S)
    _print_resumed(status, "where it stopped")


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
    settings = load_client_settings(ctx.obj)
    if not yes:
        # Shows the halt before an operator gives records up.
        status = ask_partitions(settings, lambda partitions: partitions.check(partition, to))
        click.confirm(
            f"partition {partition} is halted at offset {status.halted_at} ({status.halted}); "
            f"resume at {to}, and never count the records between?",
            abort=True,
        )
    command = new_command(CommandKind.MOVE, to, reason)
    status = send(settings, partition, command, ACKNOWLEDGED_WITHIN_S)
    _print_resumed(status, f"at offset {to}")


@partitions.command("set-watermark")
@click.argument("partition", type=click.IntRange(min=0))
@click.option("--to", "to_s", type=Instant(), required=True, help="Time to set it back to.")
@REASON
@click.pass_context
def partitions_set_watermark(ctx: click.Context, partition: int, to_s: int, reason: str) -> None:
    """Set the watermark of a partition back, counted or halted.

    Use it if wrong clocks have moved the watermark into the future, so that events are rejected as
    too late. Give the present time, once the clocks are right. All counts stay at their own times;
    the stretch whose slices had expired is incomplete.
    """
    command = new_command(CommandKind.SET_WATERMARK, to_s * 1_000, reason)
    status = send(load_client_settings(ctx.obj), partition, command, ACKNOWLEDGED_WITHIN_S)
    # An acknowledged command may have been rejected: only `set_back` proves that it was applied.
    done = status.set_back
    if done is None or done.command != command.id:
        click.echo(
            f"tokenpulse: partition {partition}: worker {status.worker} rejected the command; its "
            "log has the reason",
            err=True,
        )
        sys.exit(1)
    click.echo(
        f"partition {partition}: worker {status.worker} set the watermark back from "
        f"{rfc3339_ms(done.from_ms)} to {rfc3339_ms(done.to_ms)} at offset {done.offset}"
    )


def _print_resumed(status: PartitionStatus, place: str) -> None:
    if status.halted is not None:
        click.echo(
            f"tokenpulse: partition {status.partition}: worker {status.worker} acknowledged the "
            f"command, but the partition is halted: {halt_text(status)}: {status.halted_detail}",
            err=True,
        )
        sys.exit(1)
    click.echo(f"partition {status.partition}: worker {status.worker} resumes {place}")


def _json(status: PartitionStatus) -> dict[str, Any]:
    """Return a status by the names of its fields, also inside `set_back`."""
    done = status.set_back
    return {**asdict(status), "set_back": None if done is None else done._asdict()}


def _print_table(statuses: Sequence[PartitionStatus]) -> None:
    rows = [
        (
            *(status.partition, status.offset, status.lag),
            None if status.watermark_ms is None else rfc3339_ms(status.watermark_ms),
            status.worker,
            None if status.pulse_age_s is None else f"{status.pulse_age_s:.0f} s ago",
            *(status.lost_records, status.duplicates, halt_text(status) or None),
        )
        for status in statuses
    ]
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    for line in table([COLUMNS, *texts]):
        click.echo(line)
    for status in statuses:
        if status.halted_detail is not None:
            click.echo(f"partition {status.partition}: {status.halted_detail}")
        if status.set_back is not None:
            click.echo(
                f"partition {status.partition}: watermark set back from "
                f"{rfc3339_ms(status.set_back.from_ms)} to {rfc3339_ms(status.set_back.to_ms)} at "
                f"offset {status.set_back.offset}"
            )
