"""`tokenpulse health worker`."""

import os
import time

import click
import redis.asyncio as aioredis

from streams.config.settings import Settings, load_settings
from streams.query.health import Progress, worker_problem
from streams.store.reader import StateReader
from tokenpulse.cli.health import exit_with
from tokenpulse.redis_call import run_with_redis


@click.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Check that the worker on this host makes progress.

    It must send heartbeats, and write checkpoints while records wait.
    """
    settings = load_settings(ctx.obj)
    progress = run_with_redis(settings, lambda client: _read_progress(client, settings))
    stale_after_s = settings.exporter.stale_after_s
    exit_with(worker_problem(progress, os.uname().nodename, time.time(), stale_after_s))


async def _read_progress(client: "aioredis.Redis", settings: Settings) -> list[Progress]:
    """Read the heartbeat and the last checkpoint of every partition."""
    snapshot = await StateReader(client, settings.kafka.group, settings.kafka.topic).snapshot()
    views = {view.partition: view for view in snapshot.views if view.is_readable}
    progress = []
    for heartbeat in snapshot.heartbeats:
        view = views.get(heartbeat.partition)
        if view is None:
            # Claimed, but without a checkpoint yet.
            progress.append(Progress(heartbeat, None, None))
        else:
            progress.append(Progress(heartbeat, view.offset, view.meta.written_at_ms / 1_000))
    return progress
