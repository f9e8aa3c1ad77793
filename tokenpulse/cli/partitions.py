"""`tokenpulse partitions` and `state`: list partitions, and send commands to their workers."""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click

from streams.query.instants import rfc3339_ms
from streams.query.partitions import (
    Partitions,
    PartitionStatus,
    find_partition,
    new_command,
)
from streams.query.state_check import PartitionCheck, check_states
from streams.store.contract import CommandKind, OperatorCommand
from streams.store.heartbeat import HaltReason
from streams.store.rebuilding import RebuildSource
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import Instant, Words
from tokenpulse.redis_call import run_with_redis
from tokenpulse.report_tables import table

T = TypeVar("T")

# A worker reads commands with its heartbeats; a reload may delay them.
ACKNOWLEDGED_WITHIN_S = 30.0
# A repair reads the whole state, and the archive.
REPAIRED_WITHIN_S = 300.0
REASON = click.option("--reason", type=Words(), required=True, help="Reason; the worker logs it.")
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
    statuses = _with_partitions(ctx, lambda partitions: partitions.statuses())
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
    status = _send(
        ctx, partition, new_command(CommandKind.RESUME, None, reason), ACKNOWLEDGED_WITHIN_S
    )
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
    if not yes:
        # Shows the halt before an operator gives records up.
        status = _with_partitions(ctx, lambda partitions: partitions.check(partition, to))
        click.confirm(
            f"partition {partition} is halted at offset {status.halted_at} ({status.halted}); "
            f"resume at {to}, and never count the records between?",
            abort=True,
        )
    status = _send(ctx, partition, new_command(CommandKind.MOVE, to, reason), ACKNOWLEDGED_WITHIN_S)
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
    status = _send(ctx, partition, command, ACKNOWLEDGED_WITHIN_S)
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


@click.group()
def state() -> None:
    """Check the stored state for damage, and repair it."""


@state.command("check")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def state_check(ctx: click.Context, as_json: bool) -> None:
    """Check every stored field of all partitions, and name the source to rebuild a damaged one.

    Exit status 0 if all are whole, 1 if one is damaged, 2 if Redis or Kafka does not answer.
    """
    checks = _checks(ctx)
    if as_json:
        click.echo(json.dumps([_check_json(check) for check in checks], indent=1))
    else:
        for check in checks:
            _print_check(check)
    sys.exit(1 if any(check.damage for check in checks) else 0)


@state.command("repair")
@click.option("--partition", "only", type=click.IntRange(min=0), multiple=True, help="Only these.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Also give up what nothing can rebuild; the windows with it are incomplete.",
)
@REASON
@click.pass_context
def state_repair(ctx: click.Context, only: Sequence[int], accept_loss: bool, reason: str) -> None:
    """Let the workers of damaged partitions restore them from the archive and the log.

    Exit status 0 if all are whole or counting again, 1 if one stays halted.
    """
    damaged = _partitions_to_repair(ctx, only)
    if not damaged:
        click.echo("no stored field is damaged")
    halted = []
    for partition in damaged:
        command = new_command(CommandKind.REPAIR, int(accept_loss), reason)
        status = _send(ctx, partition, command, REPAIRED_WITHIN_S)
        if status.halted is None:
            click.echo(f"partition {partition}: worker {status.worker} repaired the state")
        else:
            halted.append(status)
            click.echo(
                f"tokenpulse: partition {partition}: halted: {_halt(status)}: "
                f"{status.halted_detail}",
                err=True,
            )
    sys.exit(1 if halted else 0)


def _partitions_to_repair(ctx: click.Context, only: Sequence[int]) -> list[int]:
    """Return the damaged partitions of `only`, or of all. Raises RequestError for an unknown one.

    One that is halted for damage is one of them also if a backup of Redis was put back since: its
    worker looks at the state again by this command only.
    """
    checks, statuses = _checks(ctx), _with_partitions(ctx, lambda partitions: partitions.statuses())
    for partition in only:
        find_partition(statuses, partition)
    damaged = {check.partition for check in checks if check.damage}
    damaged |= {one.partition for one in statuses if one.halted == HaltReason.DAMAGED}
    return sorted(damaged.intersection(only) if only else damaged)


_REBUILT_FROM = {
    RebuildSource.SLICES: "`tokenpulse state repair` restores it from the archive",
    RebuildSource.ARCHIVE: "`tokenpulse state repair` restores the partition from the archive, and "
    "counts the records since again",
    RebuildSource.LOG: "`tokenpulse state repair` counts the whole log of the partition again",
    None: "neither archive nor log can rebuild it: put a backup of Redis back, or give it up with "
    "`tokenpulse state repair --accept-loss`",
}


def _checks(ctx: click.Context) -> list[PartitionCheck]:
    settings = load_client_settings(ctx.obj)
    archived = bool(settings.worker.archive_interval_s)
    return run_with_redis(settings, lambda client: check_states(client, settings.kafka, archived))


def _check_json(check: PartitionCheck) -> dict[str, Any]:
    return {
        "partition": check.partition,
        "fields": check.fields,
        "damaged": [{"field": one.field, "detail": one.detail} for one in check.damage],
        "rebuilt_from": check.source,
    }


def _print_check(check: PartitionCheck) -> None:
    if not check.damage:
        click.echo(f"partition {check.partition}: {check.fields} fields, all whole")
        return
    for error in check.damage:
        click.echo(f"partition {check.partition}: DAMAGED: {error}")
    click.echo(f"partition {check.partition}: {_REBUILT_FROM[check.source]}")


def _with_partitions(ctx: click.Context, call: Callable[[Partitions], Awaitable[T]]) -> T:
    settings = load_client_settings(ctx.obj)
    kafka, stale_after_s = settings.kafka, settings.exporter.stale_after_s
    return run_with_redis(
        settings,
        lambda client: call(Partitions(client, kafka.group, kafka.topic, stale_after_s)),
    )


def _send(
    ctx: click.Context,
    partition: int,
    command: OperatorCommand,
    within_s: float,
) -> PartitionStatus:
    """Send a command to the worker of a partition; return the status after it was acknowledged."""
    try:
        return _with_partitions(
            ctx, lambda partitions: partitions.send(partition, command, within_s)
        )
    except TimeoutError:
        click.echo(
            f"tokenpulse: partition {partition}: no worker acknowledged the command within "
            f"{within_s:.0f} s; look at its log and at `tokenpulse partitions list`, "
            "then send the command again",
            err=True,
        )
        sys.exit(1)


def _print_resumed(status: PartitionStatus, place: str) -> None:
    if status.halted is not None:
        click.echo(
            f"tokenpulse: partition {status.partition}: worker {status.worker} acknowledged the "
            f"command, but the partition is halted: {_halt(status)}: {status.halted_detail}",
            err=True,
        )
        sys.exit(1)
    click.echo(f"partition {status.partition}: worker {status.worker} resumes {place}")


def _json(status: PartitionStatus) -> dict[str, Any]:
    """Return a status by the names of its fields, also inside `set_back`."""
    done = status.set_back
    return {**asdict(status), "set_back": None if done is None else done._asdict()}


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
        if status.set_back is not None:
            click.echo(
                f"partition {status.partition}: watermark set back from "
                f"{rfc3339_ms(status.set_back.from_ms)} to {rfc3339_ms(status.set_back.to_ms)} at "
                f"offset {status.set_back.offset}"
            )
