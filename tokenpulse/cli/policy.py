"""`tokenpulse policy`: check policies, import them from OpenSLO.

A shell: files in, lines out. Registered in tokenpulse/cli/main.py.
"""

import sys
from pathlib import Path

import click
import yaml

from alerts.openslo import from_openslo
from slo.policy.loading import PolicyError, load_policies, read_policy, read_text, read_yaml
from slo.policy.policy import Policy
from streams.config.settings import load_settings
from tokenpulse.cli.backtest import backtest
from tokenpulse.cli.rules import rules
from tokenpulse.cli.sla import maintenance, sla


@click.group()
def policy() -> None:
    """Policies: objectives, alerts and credits (docs/policies.md)."""


@policy.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Read policies, paths or names of shipped ones, that are to be in force together.

    Exit status 2 with a line for each mistake. Limits that the workers do not count yet are told.
    """
    policies = load_policies(files)
    for file, found in zip(files, policies, strict=True):
        click.echo(f"{file}: policy {found.name}, {len(found.objectives)} objectives, fine")
        for line in _uncounted(found, ctx.obj):
            click.echo(f"{file}: {line}", err=True)


def _uncounted(found: Policy, config: Path | None) -> list[str]:
    """Latency limits that could only be judged from the day on which the workers count them."""
    worker = load_settings(config).worker
    lines = []
    for measure, limits_us in found.limits_us().items():
        setting = f"{measure}_targets_s"
        counted_us = {round(target_s * 1e6) for target_s in getattr(worker, setting)}
        lines += [
            f"worker.{setting}: got no {limit_us / 1e6:g}; add it, or verdicts on it stay unknown"
            for limit_us in limits_us
            if limit_us not in counted_us
        ]
    return lines


@policy.command("import-openslo")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the policy; default: that of the file.")
def import_openslo(file: Path, name: str | None) -> None:
    """Write an OpenSLO v1 file as a policy to standard output, as far as it maps.

    Exit status 1 if something was left out (each with a line on standard error), 2 if nothing maps.
    """
    imported = from_openslo(read_yaml(read_text(file), str(file)), str(file), name or file.stem)
    for note in imported.notes:
        click.echo(note, err=True)
    if not imported.policy["objectives"]:
        raise PolicyError(f"{file}: no SLO of this file maps; docs/policies.md says which do")
    text = yaml.safe_dump(imported.policy, sort_keys=False, allow_unicode=True, width=100)
    read_policy(text, f"{file}, imported")
    click.echo(text, nl=False)
    sys.exit(bool(imported.notes))


# What `tokenpulse` has besides its own commands.
commands: dict[str, click.Command] = {
    "backtest": backtest,
    "policy": policy,
    "rules": rules,
    "maintenance": maintenance,
    "sla": sla,
}
