"""`tokenpulse policy`: check policies, import them from OpenSLO."""

import sys
from pathlib import Path

import click

from alerts.openslo import from_openslo
from exporters.formatting import counted
from slo.policy.description import describe, uncounted_limits
from slo.policy.loading import PolicyError, load_policies, read_policy, read_policy_text
from streams.config.yaml_file import parse_yaml, to_yaml
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.policy_counts import PolicyCounts


@click.group()
def policy() -> None:
    """Check policies, and import them from OpenSLO."""


@policy.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check policies that will be in force together, and print what each objective counts.

    FILE is a path, or the name of a shipped policy; without any, those of the setting
    `exporter.policies` are checked. If the state can be read, the command also prints how many
    requests of the last 24 hours each objective matches. Exit status 1 if an
    objective would stay unknown, as the workers do not count its limits; 2 with a line for each
    mistake in a file.
    """
    settings = load_client_settings(ctx.obj)
    files = files or tuple(map(str, settings.exporter.policies))
    policies = load_policies(files)
    counts = PolicyCounts.read(settings)
    # A check of files needs no running Tokenpulse.
    if counts.problem and "url" in settings.redis.model_fields_set:
        click.echo(f"no requests to compare with: {counts.problem}", err=True)
    uncounted = 0
    for file, policy in zip(files, policies, strict=True):
        missing = uncounted_limits(policy, settings.worker)
        uncounted += len(missing)
        verdict = "fine" if not missing else "some stay unknown"
        objectives = counted(len(policy.objectives), "objective")
        click.echo(f"{file}: policy {policy.name}, {objectives}, {verdict}")
        for objective in policy.objectives:
            click.echo(f"  {objective.name}")
            for line in (*describe(policy, objective), *counts.describe(policy, objective)):
                click.echo(f"    {line}")
        for limit in missing:
            click.echo(
                f"{file}: objective {limit.objective} stays unknown: {limit.setting}: got no "
                f"{limit.value}; add it to the settings of the workers",
                err=True,
            )
    sys.exit(bool(uncounted))


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
    # Read back, so that no policy is printed that cannot be used.
    read_policy(text, f"{file}, imported")
    click.echo(text, nl=False)
    sys.exit(bool(imported.notes))
