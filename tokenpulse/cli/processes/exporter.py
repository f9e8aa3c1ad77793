"""`tokenpulse exporter`. A module of its own, so that an exporter loads no code of the worker."""

import sys

import click

from alerts.evaluation.evaluator import RuleEvaluator, board_groups
from exporters.server.http import run_exporter
from slo.policy.loading import load_policies
from streams.config.settings import load_settings


@click.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Serve the state as Prometheus metrics and boards."""
    settings = load_settings(ctx.obj)
    rules = RuleEvaluator(board_groups(load_policies(settings.exporter.policies)))
    sys.exit(run_exporter(settings, rules))
