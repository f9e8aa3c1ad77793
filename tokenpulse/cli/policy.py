"""`tokenpulse policy`: check policies, import them from OpenSLO."""

import sys
from pathlib import Path

import click

from alerts.openslo import from_openslo
from slo.policy.loading import PolicyError, load_policies, read_policy, read_policy_text
from slo.policy.policy import Policy
from streams.config.settings import load_settings
from streams.config.yaml_file import parse_yaml, to_yaml
from streams.state.limits import thresholds_of
from streams.state.slices import CLOCKS


@click.group()
def policy() -> None:
    """Check policies, and import them from OpenSLO."""


@policy.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check policies that will be in force together.

    FILE is a path, or the name of a shipped policy. Exit status 2 with a line for each mistake. The
    command warns of limits that the workers do not count yet.
    """
    policies = load_policies(files)
    for file, policy in zip(files, policies, strict=True):
        click.echo(f"{file}: policy {policy.name}, {len(policy.objectives)} objectives, fine")
        for line in _missing_targets(policy, ctx.obj):
            click.echo(f"{file}: {line}", err=True)


def _missing_targets(policy: Policy, config: Path | None) -> list[str]:
    """Return a warning for each limit that the workers do not count yet."""
    worker = load_settings(config).worker
    counted_us = dict(zip(CLOCKS, thresholds_of(worker), strict=True))
    missing = [
        (clock, limit_us)
        for clock, limits_us in policy.limits_us().items()
        for limit_us in limits_us
        if limit_us not in counted_us[clock]
    ]
    lines = [
        f"worker.output_speed_targets: got no {round(10**6 / limit_us)}; "
        if clock == "output_speed"
        else f"worker.{clock}_targets_s: got no {limit_us / 1e6:g}; "
        for clock, limit_us in missing
    ]
    lines = [f"{line}add it, or its objectives stay unknown" for line in lines]
    lines += [
        f"worker.input_token_limits: got no {limit}; add it, or objectives that select by it stay "
        "unknown"
        for limit in policy.input_limits()
        if limit not in worker.input_token_limits
    ]
    return lines


@policy.command("import-openslo")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the policy; default: the name of the file.")
def import_openslo(file: Path, name: str | None) -> None:
    """Convert an OpenSLO v1 file to a policy, on standard output.

    Exit status 1 if a part was left out (each has a line on standard error), 2 if no SLO can be
    imported.
    """
    documents = parse_yaml(read_policy_text(file), str(file), error=PolicyError, exact=True)
    imported = from_openslo(documents, str(file), name or file.stem)
    for note in imported.notes:
        click.echo(note, err=True)
    if not imported.policy["objectives"]:
        raise PolicyError(
            f"{file}: no SLO of it can be imported; docs/policies.md lists the supported forms"
        )
    text = to_yaml(imported.policy)
    read_policy(text, f"{file}, imported")
    click.echo(text, nl=False)
    sys.exit(bool(imported.notes))
