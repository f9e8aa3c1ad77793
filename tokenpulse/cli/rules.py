"""`tokenpulse rules`: compile policies to alerting rules."""

import sys
from pathlib import Path
from typing import get_args

import click

from alerts.rules.build import Format, build, unread
from alerts.rules.model import Links
from exporters.windows.plan import window_plan
from slo.policy.loading import load_policies
from streams.config.settings import load_settings

_DEFAULT = Links()


@click.group()
def rules() -> None:
    """Compile policies to alerting rules (docs/alerting.md)."""


@rules.command("build")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory to write to; default: alerts/generated/FORMAT.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(get_args(Format)),
    default="prometheus",
    show_default=True,
)
@click.option(
    "--policy",
    "files",
    multiple=True,
    default=("default",),
    show_default=True,
    help="A policy, by path or by name of a shipped one; may be given again.",
)
@click.option(
    "--runbooks", default=_DEFAULT.runbooks, show_default=True, help="URL of docs/runbooks."
)
@click.option(
    "--dashboards", default=_DEFAULT.dashboards, show_default=True, help="URL of Grafana."
)
@click.option("--job", default=_DEFAULT.job, show_default=True, help="Scrape job of the exporters.")
@click.option("--check", is_flag=True, help="Write nothing; exit status 1 if a file would change.")
@click.pass_context
def build_rules(
    ctx: click.Context,
    out: Path | None,
    output: Format,
    files: tuple[str, ...],
    runbooks: str,
    dashboards: str,
    job: str,
    check: bool,
) -> None:
    """Compile policies to rule files, and write one for the alerts that need no policy.

    Format `kubernetes` writes PrometheusRule manifests. The command warns if a rule reads a window
    that the exporter does not publish.
    """
    policies = load_policies(files)
    for line in unread(policies, window_plan(load_settings(ctx.obj))):
        click.echo(line, err=True)
    out = out or Path("alerts/generated") / output
    texts = build(policies, output, Links(runbooks, dashboards, job))
    stale = [
        name
        for name, text in texts.items()
        if not (out / name).is_file() or (out / name).read_text(encoding="utf-8") != text
    ]
    if check:
        for name in stale:
            click.echo(f"{out / name}: differs from the policies; run `tokenpulse rules build`")
        sys.exit(bool(stale))
    out.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (out / name).write_text(texts[name], encoding="utf-8")
        click.echo(f"{out / name}: written")
