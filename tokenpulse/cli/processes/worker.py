"""`tokenpulse worker`. A module of its own, so that a worker loads no code of the exporter."""

import logging
from functools import partial

import click

from slo.policy.loading import PolicyError, load_policies
from slo.policy.reserved import reserved_names
from streams.config.settings import Settings, load_settings
from streams.state.limits import NO_NAMES
from streams.state.registry import ReservedNames
from streams.worker.app import run_worker

log = logging.getLogger(__name__)


@click.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Consume events and keep the state in Redis."""
    settings = load_settings(ctx.obj)
    run_worker(settings, partial(_read_reserved, settings))


def _read_reserved(settings: Settings) -> ReservedNames:
    """Return the names of the policies in force; none if a policy cannot be read."""
    try:
        return reserved_names(load_policies(settings.exporter.policies))
    except PolicyError as error:
        # Counting must not stop for a policy that only the exporter has.
        log.warning(
            "names of policies may be counted under __other__ beyond worker.limits, as "
            "exporter.policies cannot be read: %s",
            error,
        )
        return NO_NAMES
