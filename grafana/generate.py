"""Writes the dashboards: `python -m grafana.generate`; with --check it says which differ.

Thresholds come from the policies named by --policy; those that are committed are of `default`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.boards.cache import cache
from grafana.boards.daily import daily
from grafana.boards.live import live
from grafana.boards.pipeline import pipeline
from grafana.boards.sla import sla
from grafana.boards.tokens import tokens
from grafana.thresholds import limits_of
from slo.policy.loading import load_policies
from slo.policy.policy import Policy
from streams.errors import ConfigError

HERE = Path(__file__).resolve().parent / "dashboards"
# The folder is that of the file, and of Grafana's, too.
BOARDS = {
    "tokenpulse-operations": (live, cache, tokens, pipeline),
    "tokenpulse-business": (daily, sla),
}


def documents(policies: Sequence[Policy]) -> dict[str, str]:
    """Return the JSON of each dashboard by its path below grafana/dashboards."""
    limits = limits_of(policies)
    boards = {
        f"{folder}/{build.__name__}.json": build(limits)
        for folder, builds in BOARDS.items()
        for build in builds
    }
    return {path: encode(board) for path, board in boards.items()}


def encode(board: Any) -> str:
    """Return the JSON of a board, as Grafana reads it."""
    # Sorted and indented, so that a change is a small diff.
    return json.dumps(board, cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


@click.command()
@click.option("--policy", "names", multiple=True, default=("default",), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=HERE, help="Directory to write to.")
@click.option("--check", is_flag=True, help="Exit status 1 if a file differs; write nothing.")
def main(names: tuple[str, ...], out: Path, check: bool) -> None:
    """Write the Grafana dashboards, with thresholds of the named policies."""
    try:
        texts = documents(load_policies(names))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    wanted = {out / path: text for path, text in texts.items()}
    there = [path for folder in BOARDS for path in (out / folder).glob("*.json")]
    present = {path: path.read_text(encoding="utf-8") for path in there}
    # Files without a board, and boards without a file.
    stale = sorted({*wanted} ^ {*present}) + [
        path for path in wanted if present.get(path, wanted[path]) != wanted[path]
    ]
    for path in stale:
        if check:
            click.echo(f"{path}: differs from the code; run `make dashboards`")
        elif path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
            click.echo(f"{path}: written")
        else:
            path.unlink()
            click.echo(f"{path}: removed")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
