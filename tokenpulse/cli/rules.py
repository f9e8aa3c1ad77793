"""`tokenpulse rules`: compile policies to alerting rules."""

import re
import sys
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import click

from alerts.rules.build import Format, build, unread
from alerts.rules.model import Links
from exporters.windows.plan import window_plan
from slo.policy.loading import load_policies
from streams.config.settings import load_settings
from streams.config.validation import shown
from streams.errors import ConfigError, RequestError
from tokenpulse.output_files import write_output

_DEFAULT = Links()
# Domains that RFC 2606 reserves.
_EXAMPLE = re.compile(r"(^|\.)(example|example\.(com|net|org)|invalid)$")


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
@click.option(
    "--board", default="", help="URL of the live board; without it no alert links to the board."
)
@click.option("--job", default=_DEFAULT.job, show_default=True, help="Scrape job of the exporters.")
@click.option(
    "--allow-example-urls",
    is_flag=True,
    help="Write links to example addresses, which lead nowhere.",
)
@click.option("--check", is_flag=True, help="Write no file; exit status 1 if a file would change.")
@click.pass_context
def build_rules(
    ctx: click.Context,
    out: Path | None,
    output: Format,
    files: tuple[str, ...],
    runbooks: str,
    dashboards: str,
    board: str,
    job: str,
    allow_example_urls: bool,
    check: bool,
) -> None:
    """Compile policies to rule files, and write one for the alerts that need no policy.

    Format `kubernetes` writes PrometheusRule manifests. The command warns if a rule reads a window
    that the exporter does not publish.
    """
    policies = load_policies(files)
    for line in unread(policies, window_plan(load_settings(ctx.obj))):
        click.echo(line, err=True)
    if not check and not allow_example_urls:
        for option, url in (
            ("--runbooks", runbooks),
            ("--dashboards", dashboards),
            ("--board", board),
        ):
            _refuse_example(option, url)
    out = out or Path("alerts/generated") / output
    texts = build(policies, output, Links(runbooks, dashboards, board, job))
    # As bytes, so that line ends are compared too.
    stale = [name for name, text in texts.items() if _read_file(out / name) != text.encode()]
    if check:
        for name in stale:
            click.echo(f"{out / name}: differs from the policies; run `tokenpulse rules build`")
        sys.exit(bool(stale))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: cannot create {out}: {error.strerror}; give a directory that this user may "
            "write to"
        ) from error
    for name in stale:
        write_output("--out", out / name, texts[name])
        click.echo(f"{out / name}: written")


def _refuse_example(option: str, url: str) -> None:
    """Raise RequestError for an address that is reserved for examples: its links lead nowhere."""
    try:
        # A full name in DNS may end in a dot.
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError as error:
        raise RequestError(f"{option}: got {shown(url)}; write an address, https://...") from error
    if _EXAMPLE.search(host):
        raise RequestError(
            f"{option}: {url} is an example address, so the links of the alerts would lead "
            "nowhere; give your own, or --allow-example-urls"
        )


def _read_file(file: Path) -> bytes | None:
    """Return the content of a file; None if it cannot be read, as if it were missing."""
    try:
        return file.read_bytes()
    except OSError:
        return None
