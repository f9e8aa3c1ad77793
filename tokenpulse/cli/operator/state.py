"""`tokenpulse state`: check the stored state for damage, and let the workers repair it."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from streams.config.settings import Settings
from streams.query.partitions import find_partition, new_command
from streams.query.state_check import PartitionCheck, check_states
from streams.store.contract import CommandKind
from streams.store.heartbeat import HaltReason
from streams.store.rebuilding import RebuildSource
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.operator_commands import REASON, ask_partitions, halt_text, send
from tokenpulse.redis_call import run_with_redis

# A repair reads the whole state, and the archive.
REPAIRED_WITHIN_S = 300.0


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
    checks = _checks(load_client_settings(ctx.obj))
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
    settings = load_client_settings(ctx.obj)
    damaged = _partitions_to_repair(settings, only)
    if not damaged:
        click.echo("no stored field is damaged")
    halted = []
    for partition in damaged:
        command = new_command(CommandKind.REPAIR, int(accept_loss), reason)
        status = send(settings, partition, command, REPAIRED_WITHIN_S)
        if status.halted is None:
            click.echo(f"partition {partition}: worker {status.worker} repaired the state")
        else:
            halted.append(status)
            click.echo(
                f"tokenpulse: partition {partition}: halted: {halt_text(status)}: "
                f"{status.halted_detail}",
                err=True,
            )
    sys.exit(1 if halted else 0)


def _partitions_to_repair(settings: Settings, only: Sequence[int]) -> list[int]:
    """Return the damaged partitions of `only`, or of all. Raises RequestError for an unknown one.

    One that is halted for damage is one of them also if a backup of Redis was put back since: its
    worker looks at the state again by this command only.
    """
    checks, statuses = (
        _checks(settings),
        ask_partitions(settings, lambda partitions: partitions.statuses()),
    )
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


def _checks(settings: Settings) -> list[PartitionCheck]:
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
