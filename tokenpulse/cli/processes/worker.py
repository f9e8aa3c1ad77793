"""`tokenpulse worker`. A module of its own, so that a worker loads no code of the exporter."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial

import click

from slo.policy.loading import PolicyError, load_policy
from slo.policy.policy import Policy
from slo.policy.reserved import reserved_names
from streams.config.settings import Settings, load_settings
from streams.state.registry import ReservedNames
from streams.worker.app import run_worker

log = logging.getLogger(__name__)


@click.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Consume events and keep the state in Redis."""
    settings = load_settings(ctx.obj)
    run_worker(settings, partial(read_reserved, settings))


def read_reserved(settings: Settings) -> ReservedNames:
    """Return the names of the policies in force that can be read."""
    return reserved_names(_readable_policies(settings.exporter.policies))


def _readable_policies(paths_or_names: Iterable[str]) -> Iterator[Policy]:
    for one in paths_or_names:
        try:
            yield load_policy(one)
        except PolicyError as error:
            # Counting must not stop for a policy that only the exporter has.
            log.warning(
                "names of policies may be counted under __other__ beyond worker.limits, as "
                "exporter.policies cannot be read: %s",
                error,
            )
